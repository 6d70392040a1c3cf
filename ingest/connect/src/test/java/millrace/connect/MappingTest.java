package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class MappingTest {
    private static final String BODY = """
            {"text": "say \\"hi\\"\\n", "n": 7, "deep": {"list": [1, {"x": true}]}, "price": 1.10, "none": null}""";

    private static Mappings mappings(String... pairs) {
        Map<String, String> properties = new HashMap<>(Map.of("mappings", "m"));
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        return Mappings.of(properties);
    }

    private static Message message(String payload) {
        return new Message("sensors/d1/reading", payload.getBytes(StandardCharsets.UTF_8), Map.of("x-device", "d9"), Map.of("q", "1"));
    }

    private static JsonNode request(Message message, String... pairs) throws MappingException, IOException {
        return Json.MAPPER.readTree(mappings(pairs).of(message.topic()).request(message));
    }

    @Test
    void everyFieldOfARequestCanBeMapped() throws MappingException, IOException {
        JsonNode request = request(message(BODY), "mappings.m.prompt", "{payload.text} from {topic.1}", "mappings.m.system", "Be short.",
                "mappings.m.id", "{topic.1}/{payload.n}", "mappings.m.model", "echo", "mappings.m.lane", "batch",
                "mappings.m.max_tokens", "{payload.n}", "mappings.m.temperature", "{payload.price}", "mappings.m.timeout_ms", "60000",
                "mappings.m.parameters", "{{\"user\": \"{header.X-Device}\", \"top_p\": {query.q}}}", "mappings.m.correlation_id", "{topic}");
        JsonNode wanted = Json.MAPPER.readTree("""
                {"id": "d1/7", "model": "echo", "correlation_id": "sensors/d1/reading", "lane": "batch", "max_tokens": 7,
                 "timeout_ms": 60000, "temperature": 1.10, "parameters": {"user": "d9", "top_p": 1},
                 "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "say \\"hi\\"\\n from d1"}]}""");
        assertEquals(wanted, request);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', value = {
        "{payload.deep.list.1.x}#true", "{payload.deep.list}#[1,{\"x\":true}]", "{payload.price}#1.10", "{payload.none|null}#null",
        "{topic.0}-{topic.2}#sensors-reading"})
    void partsOfThePayloadAreText(String template, String wanted) throws MappingException, IOException {
        assertEquals(wanted, request(message(BODY), "mappings.m.prompt", template).at("/messages/0/content").textValue());
    }

    @Test
    void aWholePayloadNeedNotBeJson() throws MappingException, IOException {
        assertEquals("21°", request(message("21°"), "mappings.m.prompt", "{payload}").at("/messages/0/content").textValue());
    }

    @Test
    void wholeConversationsPass() throws MappingException, IOException {
        JsonNode request = request(message("{\"m\": [{\"role\": \"user\", \"content\": \"a\"}]}"), "mappings.m.messages", "{payload.m}");
        assertEquals("[{\"role\":\"user\",\"content\":\"a\"}]", request.get("messages").toString());
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', value = {
        "prompt#{payload.zzz}#`prompt`: there is no `payload.zzz`",
        "max_tokens#{payload.text}#`max_tokens` is not a whole number",
        "max_tokens#1.5#`max_tokens` is not a whole number",
        "temperature#warm#`temperature` is not a number",
        "lane#interactive#`lane` must be standard or batch",
        "id#{payload.zzz|}#`id` has 0 characters",
        "parameters#[1]#`parameters` is not a JSON object",
        "parameters#{{#`parameters` is not JSON"})
    void whatDoesNotFitSaysWhy(String field, String template, String why) {
        String[] pairs = field.equals("prompt")
                ? new String[] {"mappings.m.prompt", template}
                : new String[] {"mappings.m.prompt", "x", "mappings.m." + field, template};
        String message = assertThrows(MappingException.class, () -> request(message(BODY), pairs)).getMessage();
        assertTrue(message.startsWith(why), message);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', value = {"not json#the payload is not JSON", "{\"text\": 1} x#the payload is not JSON", "''#`prompt`"})
    void brokenPayloadsSayWhy(String payload, String why) {
        String message = assertThrows(MappingException.class, () -> request(message(payload), "mappings.m.prompt", "{payload.text}")).getMessage();
        assertTrue(message.contains(why), message);
    }

    @Test
    void bytesThatAreNoTextAreRefused() {
        Message message = new Message("t", new byte[] {(byte) 0xff, 0});
        assertEquals("`prompt`: the payload is not text in UTF-8",
                assertThrows(MappingException.class, () -> request(message, "mappings.m.prompt", "{payload}")).getMessage());
    }

    @Test
    void anOversizedPayloadIsRefusedBeforeItIsRead() {
        Message message = new Message("t", new byte[Mapping.MAX_BYTES + 1]);
        assertTrue(assertThrows(MappingException.class, () -> request(message, "mappings.m.prompt", "{payload}")).getMessage()
                .startsWith("the payload has 4194305 bytes"));
    }

    @Test
    void aRequestThatGrowsBeyondTheLimitIsRefused() {
        Message message = new Message("t", "\u0001".repeat(1_000_000).getBytes(StandardCharsets.UTF_8));
        assertTrue(assertThrows(MappingException.class, () -> request(message, "mappings.m.prompt", "{payload}")).getMessage()
                .startsWith("the request has 6000"));
    }

    @Test
    void theFirstMappingThatFitsIsTaken() throws MappingException, IOException {
        String[] pairs = {"mappings", "a, b", "mappings.a.match", "sensors/+/alarm", "mappings.a.prompt", "a",
            "mappings.b.match", "sensors/#", "mappings.b.prompt", "b"};
        assertEquals("b", request(message("x"), pairs).at("/messages/0/content").textValue());
        assertEquals("a", request(new Message("sensors/1/alarm", new byte[0]), pairs).at("/messages/0/content").textValue());
        assertEquals("no mapping is for the topic `other`",
                assertThrows(MappingException.class, () -> request(new Message("other", new byte[0]), pairs)).getMessage());
    }

    @Test
    void anItemWithoutATopicAndAPathThatIsNoneCanBeMapped() throws MappingException, IOException {
        for (String topic : new String[] {"", "a+b", "#"}) {
            assertEquals("x", request(new Message(topic, new byte[0]), "mappings.m.prompt", "x").at("/messages/0/content").textValue());
        }
        assertThrows(MappingException.class, () -> request(new Message("a+b", new byte[0]), "mappings.m.prompt", "x",
                "mappings.m.match", "a/#"));
    }

    @Test
    void messagesOfOneTopicOrKeyStayInOrder() throws MappingException {
        Message message = message(BODY);
        assertArrayEquals("sensors/d1/reading".getBytes(StandardCharsets.UTF_8),
                mappings("mappings.m.prompt", "x").of(message.topic()).key(message));
        assertArrayEquals("7".getBytes(StandardCharsets.UTF_8),
                mappings("mappings.m.prompt", "x", "mappings.m.key", "{payload.n}").of(message.topic()).key(message));
    }

    @Test
    void everyFaultOfAConfigurationIsFound() {
        Map<String, List<String>> faults = new TreeMap<>();
        Mappings.read(Map.of("mappings", "m,n", "mappings.m.promt", "x", "mappings.m.prompt", "{payload.x", "mappings.o.prompt", "x",
                "mappings.n.match", "a/#/b", "mappings.n.prompt", "x", "mappings.n.messages", "[]"), faults);
        assertEquals(List.of("mappings.m.promt", "mappings.m.prompt", "mappings.n.match", "mappings.n.prompt", "mappings.o.prompt").stream()
                .sorted().toList(), List.copyOf(faults.keySet()));
    }
}
