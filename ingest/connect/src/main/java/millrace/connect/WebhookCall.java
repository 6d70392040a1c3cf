package millrace.connect;

import com.fasterxml.jackson.databind.node.ObjectNode;
import com.sun.net.httpserver.HttpExchange;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.concurrent.atomic.AtomicBoolean;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A caller who waits for an answer, and gets one. */
final class WebhookCall {
    private static final Logger LOG = LoggerFactory.getLogger(WebhookCall.class);

    private final HttpExchange exchange;
    private final Message message;
    private final long atMs;
    private final AtomicBoolean answered = new AtomicBoolean();

    WebhookCall(HttpExchange exchange, Message message, long atMs) {
        this.exchange = exchange;
        this.message = message;
        this.atMs = atMs;
    }

    Message message() {
        return message;
    }

    long atMs() {
        return atMs;
    }

    /** Answer, unless that was done; true if this did it. `why` is null where nothing is wrong. */
    boolean answer(int status, String why) {
        if (!answered.compareAndSet(false, true)) {
            return false;
        }
        ObjectNode body = Json.MAPPER.createObjectNode();
        if (why == null) {
            body.put("accepted", true);
        } else {
            body.putObject("error").put("message", why);
        }
        byte[] bytes = body.toString().getBytes(StandardCharsets.UTF_8);
        try (exchange) {
            exchange.getResponseHeaders().set("content-type", "application/json");
            if (status == 503) {
                exchange.getResponseHeaders().set("retry-after", "1");
            }
            exchange.sendResponseHeaders(status, bytes.length);
            exchange.getResponseBody().write(bytes);
        } catch (IOException error) {
            LOG.debug("a caller went away before its answer: {}", error.toString());
        }
        return true;
    }
}
