package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.sun.net.httpserver.HttpServer;
import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.lang.reflect.Proxy;
import java.net.InetSocketAddress;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import org.apache.avro.Schema;
import org.apache.avro.generic.GenericDatumWriter;
import org.apache.avro.generic.GenericRecord;
import org.apache.avro.generic.GenericRecordBuilder;
import org.apache.avro.io.BinaryEncoder;
import org.apache.avro.io.EncoderFactory;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTaskContext;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;

/** The registry and Connect are played by doubles here; tests/integration/test_connect.py has the real ones. */
class AnswerSinkTaskTest {
    private static final Schema SCHEMA = Registry.bundled("response.avsc");

    /** A sink whose deliveries end as `outcomes` says, by correlation id; those not named succeed. */
    private static final class Scripted extends AnswerSinkTask {
        private final Map<String, String> outcomes = new HashMap<>();
        private final List<String> tried = new ArrayList<>();

        @Override
        void deliver(List<Letter> letters) {
            for (Letter letter : letters) {
                String id = letter.answer().value("correlation_id");
                tried.add(id);
                switch (outcomes.getOrDefault(id, "good")) {
                    case "good" -> settle(letter);
                    case "never" -> fail(letter, "never");
                    default -> retry(letter, "not now", 3);
                }
            }
        }

        @Override
        public void stop() {
            // Nothing runs.
        }
    }

    private final List<Long> reported = new ArrayList<>();
    private final Scripted task = new Scripted();
    private HttpServer registry;

    @BeforeEach
    void start() throws IOException {
        registry = HttpServer.create(new InetSocketAddress("127.0.0.1", 0), 0);
        registry.createContext("/schemas/ids/7", exchange -> {
            byte[] body = Json.MAPPER.createObjectNode().put("schema", SCHEMA.toString()).toString().getBytes();
            exchange.sendResponseHeaders(200, body.length);
            exchange.getResponseBody().write(body);
            exchange.close();
        });
        registry.start();
        ErrantRecordReporter reporter = (record, error) -> {
            reported.add(record.kafkaOffset());
            return CompletableFuture.completedFuture(null);
        };
        Object context = Proxy.newProxyInstance(getClass().getClassLoader(), new Class<?>[] {SinkTaskContext.class},
                (proxy, method, arguments) -> method.getName().equals("errantRecordReporter") ? reporter : null);
        task.initialize((SinkTaskContext) context);
        task.start(Map.of("name", "n", "tenant", "acme", Settings.REGISTRY,
                "http://127.0.0.1:" + registry.getAddress().getPort(), Answers.PREFIX, "p/"));
    }

    @AfterEach
    void stop() {
        registry.stop(0);
    }

    private static SinkRecord record(long offset, byte[] value) {
        return new SinkRecord("responses", 0, null, null, null, value, offset);
    }

    private static SinkRecord answer(long offset, String tenant, String correlation) throws IOException {
        GenericRecord record = new GenericRecordBuilder(SCHEMA).set("request_id", "r" + offset).set("tenant", tenant)
                .set("model", "m").set("status", "completed").set("http_status", 200).set("body", "").set("batch_id", "")
                .set("custom_id", "").set("correlation_id", correlation).set("completed_at", 1L).build();
        ByteArrayOutputStream out = new ByteArrayOutputStream();
        DataOutputStream head = new DataOutputStream(out);
        head.writeByte(0);
        head.writeInt(7);
        BinaryEncoder encoder = EncoderFactory.get().binaryEncoder(out, null);
        new GenericDatumWriter<GenericRecord>(SCHEMA).write(record, encoder);
        encoder.flush();
        return record(offset, out.toByteArray());
    }

    @Test
    void onlyWhatIsForThisSinkIsDelivered() throws IOException {
        task.put(List.of(answer(0, "acme", "p/a"), answer(1, "globex", "p/b"), answer(2, "acme", "q/c"), answer(3, "acme", "")));
        assertEquals(List.of("a"), task.tried);
        assertEquals(List.of(), reported);
    }

    @Test
    void whatWasDeliveredIsNotRepeatedWhileAnotherIsTriedAgain() throws IOException {
        List<SinkRecord> batch = List.of(answer(0, "acme", "p/a"), answer(1, "acme", "p/b"));
        task.outcomes.put("b", "later");
        assertThrows(RetriableException.class, () -> task.put(batch));
        task.outcomes.remove("b");
        task.put(batch);
        assertEquals(List.of("a", "b", "b"), task.tried);
        assertEquals(List.of(), reported);
    }

    @Test
    void whatFailsTooOftenOrForGoodIsSetAside() throws IOException {
        List<SinkRecord> batch = List.of(answer(0, "acme", "p/a"), answer(1, "acme", "p/b"));
        task.outcomes.put("a", "never");
        task.outcomes.put("b", "later");
        assertThrows(RetriableException.class, () -> task.put(batch));
        assertThrows(RetriableException.class, () -> task.put(batch));
        task.put(batch);
        assertEquals(List.of(0L, 1L), reported);
        assertEquals(List.of("a", "b", "b", "b"), task.tried);
    }

    @Test
    void bytesThatAreNoAnswerAreSetAsideAndStopNothing() throws IOException {
        byte[] good = (byte[]) answer(4, "acme", "p/a").value();
        task.put(Arrays.asList(record(0, null), record(1, new byte[] {1, 2}), record(2, new byte[] {0, 0, 0, 0, 9, 1}),
                record(3, Arrays.copyOf(good, 9)), record(4, good)));
        assertEquals(List.of(0L, 1L, 2L, 3L), reported);
        assertEquals(List.of("a"), task.tried);
    }

    @Test
    void aRegistryThatIsAwayIsWaitedFor() throws IOException {
        registry.stop(0);
        String why = assertThrows(RetriableException.class, () -> task.put(List.of(answer(0, "acme", "p/a")))).getMessage();
        assertTrue(why.startsWith("the schema registry cannot be asked"), why);
        assertEquals(List.of(), reported);
    }
}
