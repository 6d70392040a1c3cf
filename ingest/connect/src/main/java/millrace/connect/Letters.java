package millrace.connect;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.util.Arrays;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;

/** Writes records of schemas/avro/dead_letter.avsc in the Confluent wire format. */
final class Letters {
    static final String TOPIC = "dead_letters";
    /** What is left of a payload that even the topic of dead letters cannot take whole (ingest/relay.py). */
    static final int CUT_BYTES = 7 * 1024 * 1024;

    private final Registry registry;
    private final Schema schema = Registry.bundled("dead_letter.avsc");
    private int id = -1;

    Letters(Registry registry) {
        this.registry = registry;
    }

    /** Learn the schema's id, which `letter` needs. Raises IOException while the registry is away. */
    void prepare() throws IOException {
        if (id < 0) {
            id = registry.id(TOPIC + "-value", schema);
        }
    }

    /** A dead letter. `source` says where `value` came from, `position` where there, or is null. */
    byte[] letter(String tenant, String source, byte[] position, byte[] value, String reason, long nowMs) {
        boolean cut = value.length > CUT_BYTES;
        GenericRecordBuilder letter = new GenericRecordBuilder(schema);
        letter.set("tenant", tenant);
        letter.set("source_topic", source);
        letter.set("partition", -1);
        letter.set("offset", -1L);
        letter.set("reason", cut ? reason + " (its first " + CUT_BYTES + " of " + value.length + " bytes are here)" : reason);
        letter.set("truncated", cut);
        letter.set("schema_id", null);
        letter.set("key", position == null ? null : ByteBuffer.wrap(position));
        letter.set("value", ByteBuffer.wrap(cut ? Arrays.copyOf(value, CUT_BYTES) : value));
        letter.set("at", nowMs);
        return encode(letter.build());
    }

    private byte[] encode(GenericRecord record) {
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        try {
            DataOutputStream head = new DataOutputStream(out);
            head.writeByte(0);
            head.writeInt(id);
            BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
            new GenericDatumWriter<GenericRecord>(schema).write(record, encoder);
            encoder.flush();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
        return out.toByteArray();
    }
}
