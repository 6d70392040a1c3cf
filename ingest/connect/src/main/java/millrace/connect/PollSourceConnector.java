package millrace.connect;

import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Range;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigValue;
import org.apache.kafka.common.config.types.Password;

/** Items of an API that is asked again and again, as requests of a tenant. */
public final class PollSourceConnector extends OurSource {
    static final String URL = "http.url";
    static final String AUTHORIZATION = "http.authorization";
    static final String INTERVAL = "poll.interval.ms";
    static final String ITEMS = "poll.items";
    static final String START = "cursor.start";
    static final String PAGE = "cursor.page";
    static final String ITEM = "cursor.item";
    static final Set<String> ROOTS = Set.of("cursor");

    public PollSourceConnector() {
        super(PollSourceTask.class, Settings.source()
                .define(URL, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, Settings.template(ROOTS), Importance.HIGH,
                        "What to get, with {cursor} in it: https://shop/orders?after={cursor}.")
                .define(AUTHORIZATION, Type.PASSWORD, new Password(""), Importance.MEDIUM, "The header `authorization`.")
                .define(INTERVAL, Type.LONG, 10_000L, Range.atLeast(10), Importance.MEDIUM,
                        "Pause after an answer without new items, in milliseconds.")
                .define(ITEMS, Type.STRING, "", Importance.HIGH,
                        "Path of the array of items in the answer, such as data.orders; empty where it is the answer.")
                .define(START, Type.STRING, "", Importance.MEDIUM, "The first cursor.")
                .define(PAGE, Type.STRING, "", Importance.MEDIUM, "Path of the next cursor in the answer.")
                .define(ITEM, Type.STRING, "", Importance.MEDIUM,
                        "Path of the cursor in an item; that of the last item is the next one."));
    }

    @Override
    public Config validate(Map<String, String> properties) {
        Config config = super.validate(properties);
        boolean page = !properties.getOrDefault(PAGE, "").isEmpty();
        boolean item = !properties.getOrDefault(ITEM, "").isEmpty();
        if (page == item) {
            ConfigValue value = config.configValues().stream().filter(v -> v.name().equals(PAGE)).findFirst().orElseThrow();
            value.addErrorMessage("give either `cursor.page` or `cursor.item`");
        }
        return config;
    }
}
