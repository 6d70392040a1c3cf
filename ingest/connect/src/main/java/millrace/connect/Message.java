package millrace.connect;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import java.util.Set;

/** What arrived: an MQTT message, a posted body or an item of an API. `topic` is the path of a posted body. */
final class Message implements Fields {
    static final Set<String> ROOTS = Set.of("payload", "topic", "header", "query");

    private final String topic;
    private final byte[] payload;
    private final Map<String, String> headers;
    private final Map<String, String> query;
    private JsonNode tree;

    Message(String topic, byte[] payload, Map<String, String> headers, Map<String, String> query) {
        this.topic = topic;
        this.payload = payload;
        this.headers = headers;
        this.query = query;
    }

    Message(String topic, byte[] payload) {
        this(topic, payload, Map.of(), Map.of());
    }

    String topic() {
        return topic;
    }

    byte[] payload() {
        return payload;
    }

    @Override
    public String value(String name) throws MappingException {
        int dot = name.indexOf('.');
        String root = dot < 0 ? name : name.substring(0, dot);
        String rest = dot < 0 ? "" : name.substring(dot + 1);
        return switch (root) {
            case "payload" -> rest.isEmpty() ? text() : Json.text(Json.at(tree(), rest));
            case "topic" -> rest.isEmpty() ? topic : level(rest);
            case "header" -> headers.get(rest.toLowerCase(java.util.Locale.ROOT));
            case "query" -> query.get(rest);
            default -> null;
        };
    }

    private String level(String number) {
        String[] levels = topic.split("/", -1);
        int i = number.matches("\\d{1,4}") ? Integer.parseInt(number) : levels.length;
        return i < levels.length ? levels[i] : null;
    }

    private String text() throws MappingException {
        try {
            return StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(payload)).toString();
        } catch (CharacterCodingException error) {
            throw new MappingException("the payload is not text in UTF-8");
        }
    }

    private JsonNode tree() throws MappingException {
        if (tree == null) {
            try {
                tree = Json.MAPPER.readTree(payload);
            } catch (IOException error) {
                throw new MappingException("the payload is not JSON: " + Json.fault(error));
            }
        }
        return tree;
    }
}
