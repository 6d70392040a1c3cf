package millrace.connect;

import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.URLDecoder;
import java.nio.charset.StandardCharsets;
import java.security.MessageDigest;
import java.util.HashMap;
import java.util.Locale;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.LinkedBlockingQueue;

/** Takes posted bodies; each caller waits until its body has been dealt with. */
final class WebhookServer {
    /** A caller's patience: after that he is told to try again. The request may still have got through. */
    static final long PATIENCE_MS = 30_000;
    /** Callers whose bodies are read at the same time, and whose answers are written. */
    private static final int THREADS = 16;

    private final HttpServer server;
    private final ExecutorService readers = Executors.newFixedThreadPool(THREADS);
    private final ExecutorService writers = Executors.newFixedThreadPool(THREADS);
    private final byte[] token;
    private final Budget budget;
    private final BlockingQueue<WebhookCall> calls = new LinkedBlockingQueue<>();
    private final Set<WebhookCall> waiting = ConcurrentHashMap.newKeySet();

    /** Raises IOException if it cannot listen there. */
    WebhookServer(String host, int port, String token, Budget budget) throws IOException {
        this.token = token.isEmpty() ? new byte[0] : ("Bearer " + token).getBytes(StandardCharsets.UTF_8);
        this.budget = budget;
        server = HttpServer.create(new InetSocketAddress(host, port), 128);
        server.createContext("/", this::receive);
        server.setExecutor(readers);
        server.start();
    }

    BlockingQueue<WebhookCall> calls() {
        return calls;
    }

    private void receive(HttpExchange exchange) throws IOException {
        Message nothing = new Message("", new byte[0]);
        if (!exchange.getRequestMethod().equals("POST")) {
            new WebhookCall(exchange, nothing, 0).answer(405, "only POST is understood");
            return;
        }
        if (token.length > 0 && !MessageDigest.isEqual(token, authorization(exchange))) {
            new WebhookCall(exchange, nothing, 0).answer(401, "`authorization: Bearer ...` is missing or wrong");
            return;
        }
        byte[] body = exchange.getRequestBody().readNBytes(Mapping.MAX_BYTES + 1);
        if (body.length > Mapping.MAX_BYTES) {
            new WebhookCall(exchange, nothing, 0).answer(413, "the body has more than " + Mapping.MAX_BYTES + " bytes");
            return;
        }
        WebhookCall call = new WebhookCall(exchange, message(exchange, body), System.currentTimeMillis());
        if (!budget.tryTake(body.length)) {
            call.answer(503, "too much waits for Kafka: try again");
            return;
        }
        waiting.add(call);
        calls.add(call);
    }

    private static byte[] authorization(HttpExchange exchange) {
        String given = exchange.getRequestHeaders().getFirst("authorization");
        return (given == null ? "" : given).getBytes(StandardCharsets.UTF_8);
    }

    private static Message message(HttpExchange exchange, byte[] body) {
        Map<String, String> headers = new HashMap<>();
        exchange.getRequestHeaders().forEach((name, values) -> headers.put(name.toLowerCase(Locale.ROOT), values.get(0)));
        Map<String, String> query = new HashMap<>();
        String given = exchange.getRequestURI().getRawQuery();
        for (String pair : given == null ? new String[0] : given.split("&")) {
            int equals = pair.indexOf('=');
            String name = equals < 0 ? pair : pair.substring(0, equals);
            query.put(decoded(name), equals < 0 ? "" : decoded(pair.substring(equals + 1)));
        }
        return new Message(exchange.getRequestURI().getPath().replaceFirst("^/+", ""), body, headers, query);
    }

    private static String decoded(String text) {
        try {
            return URLDecoder.decode(text, StandardCharsets.UTF_8);
        } catch (IllegalArgumentException error) {
            return text; // a percent sign that means itself
        }
    }

    /** Answer a call from a thread of our own; its room is given back. */
    void settle(WebhookCall call, int status, String why) {
        waiting.remove(call);
        budget.give(call.message().payload().length);
        writers.execute(() -> call.answer(status, why));
    }

    /** Tell those who have waited too long to try again. */
    void sweep(long nowMs) {
        for (WebhookCall call : waiting) {
            if (nowMs - call.atMs() > PATIENCE_MS && waiting.remove(call)) {
                writers.execute(() -> call.answer(503, "Kafka has not taken it yet: try again"));
            }
        }
    }

    void stop() {
        for (WebhookCall call : waiting) {
            call.answer(503, "this connector is being stopped: try again");
        }
        server.stop(0);
        readers.shutdownNow();
        writers.shutdown();
    }
}
