package millrace.connect;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import org.apache.avro.Schema;

/**
 * The schema registry, at its Confluent interface.
 *
 * <p>Source: https://docs.confluent.io/platform/current/schema-registry/develop/api.html
 */
final class Registry {
    private static final Duration TIMEOUT = Duration.ofSeconds(10);
    private static final String KIND = "application/vnd.schemaregistry.v1+json";

    private final String url;
    private final HttpClient client = HttpClient.newBuilder()
            .version(HttpClient.Version.HTTP_1_1).connectTimeout(TIMEOUT).build();
    private final Map<Integer, Schema> known = new ConcurrentHashMap<>();

    Registry(String url) {
        this.url = url;
    }

    /** The schema in the jar that lies in schemas/avro as `file`. */
    static Schema bundled(String file) {
        try (InputStream in = Registry.class.getResourceAsStream("/avro/" + file)) {
            return new Schema.Parser().parse(in);
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    /** The id of `schema` under `subject`, where `make up` has put it. Raises IOException: try again later. */
    int id(String subject, Schema schema) throws IOException {
        String body = Json.MAPPER.createObjectNode().put("schema", schema.toString()).toString();
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(url + "/subjects/" + subject + "/versions"))
                .header("content-type", KIND).POST(HttpRequest.BodyPublishers.ofString(body));
        return ask(request).get("id").intValue();
    }

    /** The schema that records with this id were written by. Raises IOException, or MappingException for an unknown id. */
    Schema schema(int id) throws IOException, MappingException {
        Schema found = known.get(id);
        if (found == null) {
            JsonNode answer = ask(HttpRequest.newBuilder(URI.create(url + "/schemas/ids/" + id)));
            if (answer == null) {
                throw new MappingException("unknown schema id " + id);
            }
            found = new Schema.Parser().parse(answer.get("schema").textValue());
            known.put(id, found);
        }
        return found;
    }

    private JsonNode ask(HttpRequest.Builder request) throws IOException {
        try {
            HttpResponse<byte[]> response = client.send(
                    request.timeout(TIMEOUT).build(), HttpResponse.BodyHandlers.ofByteArray());
            if (response.statusCode() == 404) {
                return null;
            }
            if (response.statusCode() != 200) {
                throw new IOException("the schema registry answered with " + response.statusCode());
            }
            return Json.MAPPER.readTree(response.body());
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new IOException("interrupted", error);
        }
    }
}
