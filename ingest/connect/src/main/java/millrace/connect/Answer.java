package millrace.connect;

import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Set;
import org.apache.avro.generic.GenericRecord;

/** A finished request's answer (schemas/avro/response.avsc). */
final class Answer implements Fields {
    static final Set<String> ROOTS =
            Set.of("request_id", "correlation_id", "tenant", "model", "status", "http_status", "text", "body");

    private final GenericRecord record;
    private final String correlation;

    /** `correlation` is the producer's id without the sink's prefix. */
    Answer(GenericRecord record, String correlation) {
        this.record = record;
        this.correlation = correlation;
    }

    @Override
    public String value(String name) {
        return switch (name) {
            case "correlation_id" -> correlation;
            case "text" -> Json.text(text());
            default -> ROOTS.contains(name) ? String.valueOf(record.get(name)) : null;
        };
    }

    /** All of it as JSON: `text` is what the model said, `body` the whole answer or error. */
    byte[] json() {
        ObjectNode json = Json.MAPPER.createObjectNode();
        json.put("id", value("request_id")).put("correlation_id", correlation).put("status", value("status"));
        json.put("http_status", (int) record.get("http_status")).put("model", value("model"));
        json.put("completed_at", (long) record.get("completed_at"));
        json.set("text", text());
        json.set("body", body());
        return json.toString().getBytes(StandardCharsets.UTF_8);
    }

    private JsonNode body() {
        String body = value("body");
        try {
            return body.isEmpty() ? Json.MAPPER.nullNode() : Json.MAPPER.readTree(body);
        } catch (IOException error) {
            return Json.MAPPER.getNodeFactory().textNode(body);
        }
    }

    private JsonNode text() {
        JsonNode text = Json.at(body(), "choices.0.message.content");
        return text == null ? Json.MAPPER.nullNode() : text;
    }
}
