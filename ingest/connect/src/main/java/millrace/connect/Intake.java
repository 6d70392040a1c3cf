package millrace.connect;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.Map;
import org.apache.kafka.connect.data.Schema;
import org.apache.kafka.connect.header.ConnectHeaders;
import org.apache.kafka.connect.header.Headers;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** What becomes of a message: a request on the tenant's intake topic, or a dead letter. */
final class Intake {
    private static final Logger LOG = LoggerFactory.getLogger(Intake.class);

    /** What to write where. `fault` is null, or says why `value` is a dead letter. */
    record Entry(String topic, byte[] key, byte[] value, Headers headers, String fault) {
        static final Schema SCHEMA = Schema.BYTES_SCHEMA;
    }

    private final String tenant;
    private final String source;
    private final Mappings mappings;
    private final Letters letters;
    private final Backoff backoff = new Backoff();

    /** `kind` is mqtt, webhook or poll; with the connector's name it says in dead letters where they came from. */
    Intake(String kind, Map<String, String> properties) {
        tenant = properties.get(Settings.TENANT);
        source = kind + ":" + properties.get("name");
        mappings = Mappings.of(properties);
        letters = new Letters(new Registry(Settings.registry(properties)));
    }

    /** Whether entries can be made: once the registry has answered. Waits a little where it did not. */
    boolean ready() throws InterruptedException {
        try {
            letters.prepare();
            return true;
        } catch (IOException error) {
            LOG.warn("{}: waiting for the schema registry: {}", source, error.toString());
            backoff.pause();
            return false;
        }
    }

    /** What becomes of `message`, which stood at `position` of its source (null where that has none). */
    Entry entry(Message message, String position) {
        try {
            Mapping mapping = mappings.of(message.topic());
            Headers headers = new ConnectHeaders().addString("content-type", "application/json");
            return new Entry("intake." + tenant, mapping.key(message), mapping.request(message), headers, null);
        } catch (MappingException fault) {
            return setAside(message, position, fault.getMessage());
        } catch (RuntimeException error) { // a fault of ours must not keep the messages behind this one from coming
            LOG.error("{}: a message cannot be mapped", source, error);
            return setAside(message, position, "cannot be mapped: " + error);
        }
    }

    private Entry setAside(Message message, String position, String why) {
        String from = message.topic().isEmpty() ? source : source + "/" + message.topic();
        LOG.warn("{}: {}", from, why);
        byte[] at = position == null ? null : position.getBytes(StandardCharsets.UTF_8);
        byte[] letter = letters.letter(tenant, from, at, message.payload(), why, System.currentTimeMillis());
        return new Entry(Letters.TOPIC, tenant.getBytes(StandardCharsets.UTF_8), letter, new ConnectHeaders(), why);
    }
}
