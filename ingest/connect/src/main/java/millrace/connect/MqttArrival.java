package millrace.connect;

import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** A message and the connection it came by. */
record MqttArrival(MqttAsyncClient client, String topic, byte[] payload, int id, int qos) {
    private static final Logger LOG = LoggerFactory.getLogger(MqttArrival.class);

    /**
     * Acknowledge it (PUBACK), on the connection it came by only: on another one the broker may have given the same
     * number to another message, which would then be lost.
     */
    void acknowledge() {
        try {
            client.messageArrivedComplete(id, qos);
        } catch (MqttException error) {
            LOG.debug("{} is not acknowledged; the broker will send it again: {}", topic, error.toString());
        }
    }
}
