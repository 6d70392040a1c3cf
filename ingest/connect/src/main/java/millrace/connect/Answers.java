package millrace.connect;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.util.Map;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumReader;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.io.DecoderFactory;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;

/** Reads the answers that a sink is for. */
final class Answers {
    static final String PREFIX = "correlation.prefix";
    private static final int HEADER_BYTES = 5;

    private final String tenant;
    private final String prefix;
    private final Registry registry;
    private final Schema schema = Registry.bundled("response.avsc");

    Answers(Map<String, String> properties) {
        tenant = properties.get(Settings.TENANT);
        prefix = properties.getOrDefault(PREFIX, "");
        registry = new Registry(Settings.registry(properties));
    }

    static ConfigDef define(ConfigDef definition) {
        return definition.define(PREFIX, Type.STRING, "", Importance.MEDIUM,
                "Deliver only answers whose correlation id begins with this, which is then left out of it.");
    }

    /**
     * The answer in a record; null if it is not for this sink: of another tenant, or without a correlation id that
     * begins as it should. Raises MappingException for bytes that are no answer, IOException while the registry is away.
     */
    Answer read(byte[] value) throws MappingException, IOException {
        if (value == null || value.length < HEADER_BYTES || value[0] != 0) {
            throw new MappingException("not a record in the Confluent wire format");
        }
        Schema writer = registry.schema(ByteBuffer.wrap(value, 1, 4).getInt());
        GenericRecord record;
        try {
            record = new GenericDatumReader<GenericRecord>(writer, schema).read(
                    null, DecoderFactory.get().binaryDecoder(value, HEADER_BYTES, value.length - HEADER_BYTES, null));
        } catch (IOException | RuntimeException error) { // Avro has many kinds for broken bytes
            throw new MappingException("not a Response: " + error);
        }
        String correlation = String.valueOf(record.get("correlation_id"));
        boolean ours = String.valueOf(record.get("tenant")).equals(tenant);
        if (!ours || correlation.isEmpty() || !correlation.startsWith(prefix)) {
            return null;
        }
        return new Answer(record, correlation.substring(prefix.length()));
    }
}
