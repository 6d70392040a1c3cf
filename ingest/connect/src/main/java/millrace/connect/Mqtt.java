package millrace.connect;

import java.util.Map;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.types.Password;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttConnectOptions;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.eclipse.paho.client.mqttv3.persist.MemoryPersistence;

/** Where an MQTT broker is and who we are there (MQTT 3.1.1, by Eclipse Paho). */
final class Mqtt {
    static final String URL = "mqtt.url";
    static final String CLIENT = "mqtt.client.id";
    static final String USER = "mqtt.username";
    static final String PASSWORD = "mqtt.password";
    static final long WAIT_MS = 30_000;

    private Mqtt() {
    }

    static ConfigDef define(ConfigDef definition) {
        return definition
                .define(URL, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, Settings.matching("(tcp|ssl|ws|wss)://.+"),
                        Importance.HIGH, "The broker: tcp://host:1883, or ssl://host:8883.")
                .define(CLIENT, Type.STRING, "", Importance.MEDIUM,
                        "Our name there, under which the broker keeps our session; millrace-NAME by default.")
                .define(USER, Type.STRING, "", Importance.MEDIUM, "User, where the broker asks for one.")
                .define(PASSWORD, Type.PASSWORD, new Password(""), Importance.MEDIUM, "Its password.");
    }

    static String clientId(Map<String, String> properties) {
        String given = properties.getOrDefault(CLIENT, "");
        return given.isEmpty() ? "millrace-" + properties.get("name") : given;
    }

    static MqttAsyncClient client(Map<String, String> properties, String clientId) throws MqttException {
        return new MqttAsyncClient(properties.get(URL), clientId, new MemoryPersistence());
    }

    /** `clean`: whether the broker forgets us when we leave. */
    static MqttConnectOptions options(Map<String, String> properties, boolean clean) {
        MqttConnectOptions options = new MqttConnectOptions();
        options.setMqttVersion(MqttConnectOptions.MQTT_VERSION_3_1_1);
        options.setCleanSession(clean);
        options.setAutomaticReconnect(false);
        options.setConnectionTimeout((int) (WAIT_MS / 1000));
        options.setKeepAliveInterval(30);
        options.setMaxInflight(1000);
        String user = properties.getOrDefault(USER, "");
        if (!user.isEmpty()) {
            options.setUserName(user);
            options.setPassword(properties.getOrDefault(PASSWORD, "").toCharArray());
        }
        return options;
    }

    /** Let go of a client in whatever state it is. */
    static void drop(MqttAsyncClient client) {
        try {
            client.disconnectForcibly(0, 1, false);
        } catch (MqttException error) {
            // It was not connected.
        }
        try {
            client.close(true);
        } catch (MqttException error) {
            // It holds nothing any more.
        }
    }
}
