package millrace.connect;

import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.types.Password;

/** Bodies posted to a port of ours as requests of a tenant. */
public final class WebhookSourceConnector extends OurSource {
    static final String PORT = "http.port";
    static final String HOST = "http.host";
    static final String TOKEN = "http.token";

    public WebhookSourceConnector() {
        super(WebhookSourceTask.class, Settings.source()
                .define(PORT, Type.INT, ConfigDef.NO_DEFAULT_VALUE, Range.between(1, 65535), Importance.HIGH,
                        "The port to listen on.")
                .define(HOST, Type.STRING, "127.0.0.1", Importance.MEDIUM, "The address to listen on.")
                .define(TOKEN, Type.PASSWORD, new Password(""), Importance.HIGH,
                        "What callers must send as `authorization: Bearer ...`; empty lets everyone in."));
    }
}
