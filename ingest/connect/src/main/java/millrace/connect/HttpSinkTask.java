package millrace.connect;

import java.net.URI;
import java.net.URLEncoder;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpResponse;
import java.nio.charset.StandardCharsets;
import java.time.Duration;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.ExecutionException;

/**
 * Posts answers as JSON with `idempotency-key: <request id>`. Delivered is what is answered with 2xx; 408, 425, 429,
 * 5xx and broken connections are tried again; any other status is final.
 */
public final class HttpSinkTask extends AnswerSinkTask {
    private static final Duration TIMEOUT = Duration.ofSeconds(20);
    private static final int TOGETHER = 32;

    private record Sent(Letter letter, CompletableFuture<HttpResponse<Void>> future) {
    }

    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1).connectTimeout(TIMEOUT).build();
    private Map<String, String> properties = Map.of();
    private Template url;
    private int attempts;

    @Override
    public void start(Map<String, String> properties) {
        super.start(properties);
        this.properties = new HashMap<>(properties);
        url = new Template(properties.get(HttpSinkConnector.URL), Answer.ROOTS);
        attempts = Integer.parseInt(properties.getOrDefault(HttpSinkConnector.ATTEMPTS, "10"));
    }

    @Override
    void deliver(List<Letter> letters) throws InterruptedException {
        for (int i = 0; i < letters.size(); i += TOGETHER) {
            List<Sent> sent = new ArrayList<>(TOGETHER);
            for (Letter letter : letters.subList(i, Math.min(letters.size(), i + TOGETHER))) {
                send(letter, sent);
            }
            for (Sent one : sent) {
                conclude(one);
            }
        }
    }

    private void send(Letter letter, List<Sent> sent) {
        HttpRequest.Builder request;
        try {
            // Encoded, so that an id can lead nowhere but below the URL that was configured.
            String target = url.render(name -> URLEncoder.encode(letter.answer().value(name), StandardCharsets.UTF_8));
            request = HttpRequest.newBuilder(URI.create(target));
        } catch (MappingException | IllegalArgumentException fault) {
            fail(letter, "`http.url`: " + fault.getMessage());
            return;
        }
        request.timeout(TIMEOUT).header("content-type", "application/json");
        String authorization = properties.getOrDefault(HttpSinkConnector.AUTHORIZATION, "");
        if (!authorization.isEmpty()) {
            request.header("authorization", authorization);
        }
        request.header("idempotency-key", URLEncoder.encode(letter.answer().value("request_id"), StandardCharsets.UTF_8));
        request.POST(HttpRequest.BodyPublishers.ofByteArray(letter.answer().json()));
        sent.add(new Sent(letter, client.sendAsync(request.build(), HttpResponse.BodyHandlers.discarding())));
    }

    private void conclude(Sent sent) throws InterruptedException {
        int status;
        try {
            status = sent.future().get().statusCode();
        } catch (ExecutionException error) {
            retry(sent.letter(), String.valueOf(error.getCause()), attempts);
            return;
        }
        if (status >= 200 && status < 300) {
            settle(sent.letter());
        } else if (status == 408 || status == 425 || status == 429 || status >= 500) {
            retry(sent.letter(), "HTTP " + status, attempts);
        } else {
            fail(sent.letter(), "HTTP " + status);
        }
    }

    @Override
    public void stop() {
        // Nothing is held open.
    }
}
