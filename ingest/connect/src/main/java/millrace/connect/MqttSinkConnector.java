package millrace.connect;

import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;

/** Answers of a tenant as MQTT messages. */
public final class MqttSinkConnector extends OurSink {
    static final String TOPIC = "mqtt.topic";
    static final String VALUE = "mqtt.value";

    public MqttSinkConnector() {
        super(MqttSinkTask.class, Answers.define(Mqtt.define(Settings.definition()))
                .define(TOPIC, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, Settings.template(Answer.ROOTS), Importance.HIGH,
                        "Where an answer goes, such as devices/{correlation_id}/answer.")
                .define(VALUE, Type.STRING, "", Settings.template(Answer.ROOTS), Importance.MEDIUM,
                        "What is sent, such as {text}; all of the answer as JSON by default."));
    }
}
