package millrace.connect;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigValue;
import org.eclipse.paho.client.mqttv3.MqttTopic;

/** MQTT messages as requests of a tenant. */
public final class MqttSourceConnector extends OurSource {
    static final String TOPICS = "mqtt.topics";

    public MqttSourceConnector() {
        super(MqttSourceTask.class, Mqtt.define(Settings.source()).define(TOPICS, Type.LIST, ConfigDef.NO_DEFAULT_VALUE,
                Importance.HIGH, "Filters of topics to subscribe to, such as sensors/+/reading."));
    }

    static List<String> filters(Map<String, String> properties) {
        return Arrays.stream(properties.getOrDefault(TOPICS, "").split(",")).map(String::strip)
                .filter(filter -> !filter.isEmpty()).toList();
    }

    @Override
    public Config validate(Map<String, String> properties) {
        Config config = super.validate(properties);
        List<String> filters = filters(properties);
        ConfigValue value = config.configValues().stream().filter(v -> v.name().equals(TOPICS)).findFirst().orElseThrow();
        if (filters.isEmpty() && value.errorMessages().isEmpty()) {
            value.addErrorMessage("give at least one filter of topics");
        }
        for (String filter : filters) {
            try {
                MqttTopic.validate(filter, true);
            } catch (IllegalArgumentException error) {
                value.addErrorMessage("not a filter of topics: " + error.getMessage());
            }
        }
        return config;
    }
}
