package millrace.connect;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.node.ArrayNode;
import com.fasterxml.jackson.databind.node.ObjectNode;
import java.io.IOException;
import java.math.BigDecimal;
import java.util.Map;
import java.util.Set;

/** How a message becomes a request: a template for each field of it (schemas/avro/intake.avsc). */
final class Mapping {
    /** ingest/body.py has the same limit. */
    static final int MAX_BYTES = 4 * 1024 * 1024;
    /** ingest/intake.py has the same limit. */
    static final int MAX_ID_CHARS = 256;
    static final Set<String> FIELDS = Set.of(
            "id", "model", "prompt", "system", "messages", "max_tokens", "temperature", "parameters", "lane",
            "timeout_ms", "correlation_id", "key", "order_key", "created_at", "max_age_ms");

    private final Map<String, Template> templates;

    /** `templates` by the names of FIELDS; `prompt` or `messages` is among them. */
    Mapping(Map<String, Template> templates) {
        this.templates = Map.copyOf(templates);
    }

    /** The request as JSON that the relay understands. Raises MappingException. */
    byte[] request(Message message) throws MappingException {
        if (message.payload().length > MAX_BYTES) {
            throw new MappingException(
                    "the payload has " + message.payload().length + " bytes, more than the " + MAX_BYTES + " of a request");
        }
        ObjectNode request = Json.MAPPER.createObjectNode();
        id(request, message);
        text(request, "model", message);
        text(request, "correlation_id", message);
        text(request, "order_key", message);
        lane(request, message);
        number(request, "max_tokens", message, true);
        number(request, "timeout_ms", message, true);
        number(request, "created_at", message, true);
        number(request, "max_age_ms", message, true);
        number(request, "temperature", message, false);
        JsonNode parameters = json("parameters", message);
        if (parameters != null) {
            if (!parameters.isObject()) {
                throw new MappingException("`parameters` is not a JSON object");
            }
            request.set("parameters", parameters);
        }
        request.set("messages", messages(message));
        return bytes(request);
    }

    /** What keeps messages of one device in order: records of one key come one after another. */
    byte[] key(Message message) throws MappingException {
        String key = render("key", message);
        return (key == null ? message.topic() : key).getBytes(java.nio.charset.StandardCharsets.UTF_8);
    }

    private void id(ObjectNode request, Message message) throws MappingException {
        String id = render("id", message);
        if (id == null) {
            return;
        }
        if (id.isBlank() || id.length() > MAX_ID_CHARS) {
            throw new MappingException("`id` has " + id.length() + " characters, not 1 to " + MAX_ID_CHARS);
        }
        request.put("id", id);
    }

    private void lane(ObjectNode request, Message message) throws MappingException {
        String lane = render("lane", message);
        if (lane == null || lane.isEmpty()) {
            return;
        }
        if (!lane.equals("standard") && !lane.equals("batch")) {
            throw new MappingException("`lane` must be standard or batch, not `" + lane + "`");
        }
        request.put("lane", lane);
    }

    private void text(ObjectNode request, String field, Message message) throws MappingException {
        String value = render(field, message);
        if (value != null && !value.isEmpty()) {
            request.put(field, value);
        }
    }

    private void number(ObjectNode request, String field, Message message, boolean whole) throws MappingException {
        String value = render(field, message);
        if (value == null || value.isBlank()) {
            return;
        }
        try {
            BigDecimal number = new BigDecimal(value.strip());
            if (whole) {
                request.put(field, number.longValueExact());
            } else {
                request.put(field, number);
            }
        } catch (ArithmeticException | NumberFormatException error) {
            throw new MappingException("`" + field + "` is not a " + (whole ? "whole " : "") + "number: `" + cut(value) + "`");
        }
    }

    private JsonNode messages(Message message) throws MappingException {
        JsonNode given = json("messages", message);
        if (given != null) {
            if (!given.isArray()) {
                throw new MappingException("`messages` is not a JSON array");
            }
            return given;
        }
        ArrayNode messages = Json.MAPPER.createArrayNode();
        String system = render("system", message);
        if (system != null && !system.isEmpty()) {
            messages.addObject().put("role", "system").put("content", system);
        }
        messages.addObject().put("role", "user").put("content", render("prompt", message));
        return messages;
    }

    private JsonNode json(String field, Message message) throws MappingException {
        String value = render(field, message);
        if (value == null || value.isBlank()) {
            return null;
        }
        try {
            return Json.MAPPER.readTree(value);
        } catch (IOException error) {
            throw new MappingException("`" + field + "` is not JSON: " + Json.fault(error));
        }
    }

    private String render(String field, Message message) throws MappingException {
        Template template = templates.get(field);
        try {
            return template == null ? null : template.render(message);
        } catch (MappingException fault) {
            throw new MappingException("`" + field + "`: " + fault.getMessage());
        }
    }

    private static byte[] bytes(ObjectNode request) throws MappingException {
        byte[] bytes;
        try {
            bytes = Json.MAPPER.writeValueAsBytes(request);
        } catch (JsonProcessingException error) {
            throw new MappingException("the request cannot be written as JSON: " + Json.fault(error));
        }
        if (bytes.length > MAX_BYTES) {
            throw new MappingException("the request has " + bytes.length + " bytes, more than the " + MAX_BYTES + " allowed");
        }
        return bytes;
    }

    private static String cut(String text) {
        return text.length() <= 80 ? text : text.substring(0, 80) + "…";
    }
}
