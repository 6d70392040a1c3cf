package millrace.connect;

import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.types.Password;

/** Answers of a tenant, posted to a callback. */
public final class HttpSinkConnector extends OurSink {
    static final String URL = "http.url";
    static final String AUTHORIZATION = "http.authorization";
    static final String ATTEMPTS = "http.attempts";

    public HttpSinkConnector() {
        super(HttpSinkTask.class, Answers.define(Settings.definition())
                .define(URL, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, Settings.template(Answer.ROOTS), Importance.HIGH,
                        "Where answers are posted, such as https://shop/answers/{correlation_id}.")
                .define(AUTHORIZATION, Type.PASSWORD, new Password(""), Importance.MEDIUM, "The header `authorization`.")
                .define(ATTEMPTS, Type.INT, 10, Range.between(1, 1000), Importance.MEDIUM,
                        "Attempts before an answer is set aside; the pauses grow from half a second to half a minute."));
    }
}
