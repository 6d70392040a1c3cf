package millrace.connect;

import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** One connection to a broker, over which messages that came by it are acknowledged while it lasts. */
final class MqttConnection {
    private static final Logger LOG = LoggerFactory.getLogger(MqttConnection.class);

    private final MqttAsyncClient client;
    private boolean open = true;

    MqttConnection(MqttAsyncClient client) {
        this.client = client;
    }

    /** PUBACK for the message that has this number on this connection; without effect once it is closed. */
    synchronized void acknowledge(int id, int qos) {
        if (!open) {
            return;
        }
        try {
            client.messageArrivedComplete(id, qos);
        } catch (MqttException error) {
            LOG.debug("a message is not acknowledged; the broker will send it again: {}", error.toString());
        }
    }

    /** Close it. Nobody is kept waiting meanwhile: acknowledgements give room to the thread that this waits for. */
    void close() {
        synchronized (this) {
            open = false;
        }
        Mqtt.drop(client);
    }
}
