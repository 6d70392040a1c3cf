package millrace.connect;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

/** Answers a caller with 202 once Kafka has its request, and with 422 once Kafka has its dead letter. */
public final class WebhookSourceTask extends SourceTask {
    private static final long BUDGET_BYTES = 32L * 1024 * 1024;
    private static final int BATCH = 1000;

    /** A record that remembers its caller. */
    private static final class Carried extends SourceRecord {
        private final transient WebhookCall call;
        private final String fault;

        Carried(Intake.Entry entry, WebhookCall call) {
            super(null, null, entry.topic(), null, Intake.Entry.SCHEMA, entry.key(), Intake.Entry.SCHEMA, entry.value(),
                    null, entry.headers());
            this.call = call;
            this.fault = entry.fault();
        }

        @Override
        public boolean equals(Object other) {
            return this == other;
        }

        @Override
        public int hashCode() {
            return System.identityHashCode(this);
        }
    }

    private Intake intake;
    private WebhookServer server;

    @Override
    public void start(Map<String, String> properties) {
        intake = new Intake("webhook", properties);
        String host = properties.getOrDefault(WebhookSourceConnector.HOST, "127.0.0.1");
        int port = Integer.parseInt(properties.get(WebhookSourceConnector.PORT));
        String token = properties.getOrDefault(WebhookSourceConnector.TOKEN, "");
        try {
            server = new WebhookServer(host, port, token, new Budget(BUDGET_BYTES));
        } catch (IOException error) {
            throw new ConnectException("cannot listen on " + host + ":" + port + ": " + error.getMessage(), error);
        }
    }

    @Override
    public List<SourceRecord> poll() throws InterruptedException {
        server.sweep(System.currentTimeMillis());
        if (!intake.ready()) {
            return null;
        }
        WebhookCall first = server.calls().poll(1, TimeUnit.SECONDS);
        if (first == null) {
            return null;
        }
        List<WebhookCall> calls = new ArrayList<>(List.of(first));
        server.calls().drainTo(calls, BATCH - 1);
        List<SourceRecord> records = new ArrayList<>(calls.size());
        for (WebhookCall call : calls) {
            records.add(new Carried(intake.entry(call.message(), null), call));
        }
        return records;
    }

    @Override
    public void commitRecord(SourceRecord record, RecordMetadata metadata) {
        Carried carried = (Carried) record;
        server.settle(carried.call, carried.fault == null ? 202 : 422, carried.fault);
    }

    @Override
    public void stop() {
        if (server != null) {
            server.stop();
        }
    }

    @Override
    public String version() {
        return "1";
    }
}
