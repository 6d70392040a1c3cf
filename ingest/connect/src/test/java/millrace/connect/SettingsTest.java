package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.apache.kafka.connect.connector.Connector;
import org.junit.jupiter.api.Test;

class SettingsTest {
    private static final Map<String, String> MQTT = Map.of("name", "n", "connector.class", "x", "tenant", "acme", "mqtt.url",
            "tcp://h:1", "mqtt.topics", "a/+", "mappings", "m", "mappings.m.prompt", "{payload}");

    private static Map<String, List<String>> faults(Connector connector, Map<String, String> base, String... pairs) {
        Map<String, String> properties = new HashMap<>(base);
        for (int i = 0; i < pairs.length; i += 2) {
            properties.put(pairs[i], pairs[i + 1]);
        }
        Map<String, List<String>> found = new TreeMap<>();
        connector.validate(properties).configValues().forEach(value -> {
            if (!value.errorMessages().isEmpty()) {
                found.put(value.name(), value.errorMessages());
            }
        });
        return found;
    }

    @Test
    void aGoodConfigurationHasNoFault() {
        assertEquals(Map.of(), faults(new MqttSourceConnector(), MQTT, "tasks.max", "1", "errors.tolerance", "none"));
    }

    @Test
    void whatNobodyReadsIsAFault() {
        assertEquals(List.of("mappings.m.promt", "mqtt.topic"),
                List.copyOf(faults(new MqttSourceConnector(), MQTT, "mqtt.topic", "a", "mappings.m.promt", "x").keySet()));
    }

    @Test
    void whatDoesNotFitIsAFault() {
        assertEquals(List.of("mqtt.topics", "mqtt.url", "tenant"), List.copyOf(faults(new MqttSourceConnector(), MQTT,
                "mqtt.url", "host:1883", "mqtt.topics", "a#", "tenant", "a b").keySet()));
    }

    @Test
    void aPolledApiHasOneKindOfCursor() {
        Map<String, String> poll = Map.of("name", "n", "connector.class", "x", "tenant", "acme", "http.url",
                "http://h/?c={cursor}", "mappings", "m", "mappings.m.prompt", "{payload.t}");
        assertEquals(Map.of(), faults(new PollSourceConnector(), poll, "cursor.item", "id"));
        assertEquals(List.of("cursor.page"), List.copyOf(faults(new PollSourceConnector(), poll).keySet()));
        assertEquals(List.of("http.url"), List.copyOf(
                faults(new PollSourceConnector(), poll, "cursor.item", "id", "http.url", "http://h/{payload.x}").keySet()));
    }

    @Test
    void theTemplatesOfSinksKnowTheFieldsOfAnswers() {
        Map<String, String> sink = Map.of("name", "n", "connector.class", "x", "tenant", "acme", "mqtt.url", "tcp://h:1",
                "topics", "responses", "mqtt.topic", "d/{correlation_id}/answer");
        assertEquals(Map.of(), faults(new MqttSinkConnector(), sink, "mqtt.value", "{text}"));
        assertEquals(List.of("mqtt.value"), List.copyOf(faults(new MqttSinkConnector(), sink, "mqtt.value", "{txt}").keySet()));
    }
}
