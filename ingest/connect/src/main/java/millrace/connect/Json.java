package millrace.connect;

import com.fasterxml.jackson.core.JsonProcessingException;
import com.fasterxml.jackson.databind.DeserializationFeature;
import com.fasterxml.jackson.databind.JsonNode;
import com.fasterxml.jackson.databind.ObjectMapper;
import com.fasterxml.jackson.databind.cfg.JsonNodeFeature;
import java.io.IOException;

/** JSON, and paths such as {@code data.items.0} in it. */
final class Json {
    static final ObjectMapper MAPPER = new ObjectMapper()
            .enable(DeserializationFeature.FAIL_ON_TRAILING_TOKENS)
            // Amounts stay as they were written.
            .enable(DeserializationFeature.USE_BIG_DECIMAL_FOR_FLOATS)
            .configure(JsonNodeFeature.STRIP_TRAILING_BIGDECIMAL_ZEROES, false);

    private Json() {
    }

    /** What `path` names below `node`; null where there is no such thing. An empty path is `node` itself. */
    static JsonNode at(JsonNode node, String path) {
        JsonNode found = node;
        if (path.isEmpty()) {
            return found;
        }
        for (String step : path.split("\\.", -1)) {
            if (found == null) {
                return null;
            }
            found = found.isArray() && step.matches("\\d{1,9}") ? found.get(Integer.parseInt(step)) : found.get(step);
        }
        return found;
    }

    /** A string as it is, everything else as compact JSON; null for nothing and for null. */
    static String text(JsonNode node) {
        if (node == null || node.isNull() || node.isMissingNode()) {
            return null;
        }
        return node.isTextual() ? node.textValue() : node.toString();
    }

    /** One line about what is wrong. */
    static String fault(IOException error) {
        String text = error instanceof JsonProcessingException fault ? fault.getOriginalMessage() : error.getMessage();
        return String.valueOf(text).lines().findFirst().orElse("");
    }
}
