package millrace.connect;

import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.eclipse.paho.client.mqttv3.MqttTopic;

/**
 * Publishes answers at QoS 1. An answer counts as delivered once the broker has acknowledged it; while there is no
 * broker all answers wait, for as long as the topic keeps them.
 */
public final class MqttSinkTask extends AnswerSinkTask {
    /** Fewer than Paho's limit of messages in flight, so that none is refused for that. */
    private static final int TOGETHER = 500;

    private record Sent(Letter letter, IMqttToken token) {
    }

    private Map<String, String> properties = Map.of();
    private Template topic;
    private Template value;
    private MqttAsyncClient client;

    @Override
    public void start(Map<String, String> properties) {
        super.start(properties);
        this.properties = new HashMap<>(properties);
        topic = new Template(properties.get(MqttSinkConnector.TOPIC), Answer.ROOTS);
        String template = properties.getOrDefault(MqttSinkConnector.VALUE, "");
        value = template.isEmpty() ? null : new Template(template, Answer.ROOTS);
    }

    @Override
    void deliver(List<Letter> letters) {
        for (int i = 0; i < letters.size(); i += TOGETHER) {
            List<Letter> part = letters.subList(i, Math.min(letters.size(), i + TOGETHER));
            List<Sent> sent = new ArrayList<>(part.size());
            try {
                connect();
                for (Letter letter : part) {
                    publish(letter, sent);
                }
                for (Sent one : sent) {
                    one.token().waitForCompletion(Mqtt.WAIT_MS);
                    settle(one.letter());
                }
            } catch (MqttException error) {
                // What was acknowledged meanwhile is known; the rest is sent again on a new connection.
                for (Sent one : sent) {
                    if (one.token().isComplete() && one.token().getException() == null) {
                        settle(one.letter());
                    }
                }
                if (!part.isEmpty()) {
                    retry(part.get(0), properties.get(Mqtt.URL) + ": " + error, Integer.MAX_VALUE);
                }
                drop();
                return;
            }
        }
    }

    private void publish(Letter letter, List<Sent> sent) throws MqttException {
        String name;
        byte[] bytes;
        try {
            name = topic.render(letter.answer());
            bytes = value == null ? letter.answer().json() : value.render(letter.answer()).getBytes(StandardCharsets.UTF_8);
            MqttTopic.validate(name, false);
        } catch (MappingException | IllegalArgumentException fault) {
            fail(letter, "`mqtt.topic` or `mqtt.value`: " + fault.getMessage());
            return;
        }
        MqttMessage message = new MqttMessage(bytes);
        message.setQos(1);
        sent.add(new Sent(letter, client.publish(name, message)));
    }

    private void connect() throws MqttException {
        if (client != null && client.isConnected()) {
            return;
        }
        drop();
        client = Mqtt.client(properties, Mqtt.clientId(properties) + "-" + properties.getOrDefault(OurSink.TASK, "0"));
        client.connect(Mqtt.options(properties, true)).waitForCompletion(Mqtt.WAIT_MS);
    }

    private void drop() {
        if (client != null) {
            Mqtt.drop(client);
            client = null;
        }
    }

    @Override
    public void stop() {
        drop();
    }
}
