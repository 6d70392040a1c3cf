package millrace.connect;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.TimeUnit;
import org.apache.kafka.clients.producer.RecordMetadata;
import org.apache.kafka.connect.source.SourceRecord;
import org.apache.kafka.connect.source.SourceTask;

/**
 * (1) A message arrives, (2) its request or its dead letter goes to Kafka, (3) Kafka has it, (4) the message is
 * acknowledged. Whatever dies before (4), the broker sends the message again.
 */
public final class MqttSourceTask extends SourceTask {
    private static final long BUDGET_BYTES = 32L * 1024 * 1024;
    private static final int BATCH = 1000;
    private static final String FILTERS = "filters";

    /** A record that remembers what it was made of. */
    private static final class Carried extends SourceRecord {
        private final transient MqttArrival arrival;

        Carried(Map<String, String> session, Map<String, String> filters, Intake.Entry entry, MqttArrival arrival) {
            super(session, filters, entry.topic(), null, Intake.Entry.SCHEMA, entry.key(), Intake.Entry.SCHEMA,
                    entry.value(), null, entry.headers());
            this.arrival = arrival;
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

    private final Budget budget = new Budget(BUDGET_BYTES);
    private Intake intake;
    private MqttSession session;
    private Map<String, String> partition = Map.of();
    private Map<String, String> offset = Map.of();

    @Override
    public void start(Map<String, String> properties) {
        intake = new Intake("mqtt", properties);
        partition = Map.of("session", properties.get(Mqtt.URL) + " " + Mqtt.clientId(properties));
        List<String> filters = MqttSourceConnector.filters(properties);
        offset = Map.of(FILTERS, String.join(",", filters));
        session = new MqttSession(properties, filters, former(), budget);
        session.start();
    }

    private List<String> former() {
        Map<String, Object> last = context.offsetStorageReader().offset(partition);
        return last == null ? List.of() : List.of(String.valueOf(last.get(FILTERS)).split(","));
    }

    @Override
    public List<SourceRecord> poll() throws InterruptedException {
        if (!intake.ready()) {
            return null;
        }
        MqttArrival first = session.arrivals().poll(1, TimeUnit.SECONDS);
        if (first == null) {
            return null;
        }
        List<MqttArrival> arrivals = new ArrayList<>(List.of(first));
        session.arrivals().drainTo(arrivals, BATCH - 1);
        List<SourceRecord> records = new ArrayList<>(arrivals.size());
        for (MqttArrival arrival : arrivals) {
            Intake.Entry entry = intake.entry(new Message(arrival.topic(), arrival.payload()), null);
            records.add(new Carried(partition, offset, entry, arrival));
        }
        return records;
    }

    @Override
    public void commitRecord(SourceRecord record, RecordMetadata metadata) {
        MqttArrival arrival = ((Carried) record).arrival;
        arrival.acknowledge();
        budget.give(arrival.payload().length);
    }

    @Override
    public void stop() {
        if (session != null) {
            session.stop();
        }
    }

    @Override
    public String version() {
        return "1";
    }
}
