package millrace.connect;

import java.io.IOException;
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
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Gets page after page. The cursor is the source offset: Connect keeps it once Kafka has the items before it. */
public final class PollSourceTask extends SourceTask {
    private static final Logger LOG = LoggerFactory.getLogger(PollSourceTask.class);
    private static final Duration TIMEOUT = Duration.ofSeconds(30);
    private static final int MAX_ANSWER_BYTES = 32 * 1024 * 1024;
    /** How long a call of ours may sleep, so that a stop is seen. */
    private static final long NAP_MS = 500;
    private static final String CURSOR = "cursor";

    private final Backoff backoff = new Backoff();
    private final HttpClient client = HttpClient.newBuilder().version(HttpClient.Version.HTTP_1_1)
            .followRedirects(HttpClient.Redirect.NORMAL).connectTimeout(TIMEOUT).build();
    private Map<String, String> properties = Map.of();
    private Intake intake;
    private Template url;
    private Map<String, String> partition = Map.of();
    private String cursor = "";
    private long dueMs;

    @Override
    public void start(Map<String, String> properties) {
        this.properties = new HashMap<>(properties);
        intake = new Intake("poll", properties);
        url = new Template(properties.get(PollSourceConnector.URL), PollSourceConnector.ROOTS);
        partition = Map.of("url", properties.get(PollSourceConnector.URL));
        Map<String, Object> last = context.offsetStorageReader().offset(partition);
        cursor = last == null ? properties.getOrDefault(PollSourceConnector.START, "") : String.valueOf(last.get(CURSOR));
    }

    @Override
    public List<SourceRecord> poll() throws InterruptedException {
        long waitMs = dueMs - System.currentTimeMillis();
        if (waitMs > 0) {
            Thread.sleep(Math.min(waitMs, NAP_MS));
            return null;
        }
        if (!intake.ready()) {
            return null;
        }
        Page page;
        try {
            page = get();
            backoff.reset();
        } catch (IOException | MappingException | IllegalArgumentException error) {
            long pauseMs = backoff.pauseMs();
            LOG.warn("{}: not read, trying again in {} ms: {}", properties.get("name"), pauseMs, error.getMessage());
            dueMs = System.currentTimeMillis() + pauseMs;
            return null;
        }
        if (page.items().isEmpty() || page.next().equals(cursor)) {
            dueMs = System.currentTimeMillis() + Long.parseLong(properties.getOrDefault(PollSourceConnector.INTERVAL, "10000"));
        }
        List<SourceRecord> records = new ArrayList<>(page.items().size());
        for (Page.Item item : page.items()) {
            Intake.Entry entry = intake.entry(new Message("", item.bytes()), item.cursor());
            records.add(new SourceRecord(partition, Map.of(CURSOR, item.cursor()), entry.topic(), null,
                    Intake.Entry.SCHEMA, entry.key(), Intake.Entry.SCHEMA, entry.value(), null, entry.headers()));
        }
        cursor = page.next();
        return records;
    }

    private Page get() throws IOException, MappingException, InterruptedException {
        String target = url.render(name -> URLEncoder.encode(cursor, StandardCharsets.UTF_8));
        HttpRequest.Builder request = HttpRequest.newBuilder(URI.create(target)).timeout(TIMEOUT).header("accept", "application/json");
        String authorization = properties.getOrDefault(PollSourceConnector.AUTHORIZATION, "");
        if (!authorization.isEmpty()) {
            request.header("authorization", authorization);
        }
        HttpResponse<java.io.InputStream> response = client.send(request.build(), HttpResponse.BodyHandlers.ofInputStream());
        try (java.io.InputStream body = response.body()) {
            if (response.statusCode() != 200) {
                throw new IOException("HTTP " + response.statusCode() + " from " + target);
            }
            byte[] bytes = body.readNBytes(MAX_ANSWER_BYTES + 1);
            if (bytes.length > MAX_ANSWER_BYTES) {
                throw new IOException("the answer has more than " + MAX_ANSWER_BYTES + " bytes: ask for smaller pages");
            }
            return Page.read(bytes, properties.getOrDefault(PollSourceConnector.ITEMS, ""),
                    properties.getOrDefault(PollSourceConnector.PAGE, ""),
                    properties.getOrDefault(PollSourceConnector.ITEM, ""), cursor);
        }
    }

    @Override
    public void stop() {
        // A call in progress ends by itself, in half a minute at most.
    }

    @Override
    public String version() {
        return "1";
    }
}
