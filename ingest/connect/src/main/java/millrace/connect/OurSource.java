package millrace.connect;

import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.source.SourceConnector;

/** What our source connectors have in common: one task, which is given the connector's whole configuration. */
abstract class OurSource extends SourceConnector {
    private final Class<? extends Task> task;
    private final ConfigDef definition;
    private Map<String, String> properties = Map.of();

    OurSource(Class<? extends Task> task, ConfigDef definition) {
        this.task = task;
        this.definition = definition;
    }

    @Override
    public void start(Map<String, String> properties) {
        this.properties = new HashMap<>(properties);
    }

    @Override
    public Class<? extends Task> taskClass() {
        return task;
    }

    @Override
    public List<Map<String, String>> taskConfigs(int maxTasks) {
        return List.of(properties);
    }

    @Override
    public void stop() {
        // Nothing runs here.
    }

    @Override
    public ConfigDef config() {
        return definition;
    }

    @Override
    public Config validate(Map<String, String> properties) {
        return Settings.check(super.validate(properties), definition, properties);
    }

    @Override
    public String version() {
        return "1";
    }
}
