package millrace.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.List;
import java.util.Map;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.connect.connector.Task;
import org.apache.kafka.connect.sink.SinkConnector;

/** What our sink connectors have in common: tasks that differ only in their number. */
abstract class OurSink extends SinkConnector {
    /** The number of a task among those of its connector. */
    static final String TASK = "millrace.task";

    private final Class<? extends Task> task;
    private final ConfigDef definition;
    private Map<String, String> properties = Map.of();

    OurSink(Class<? extends Task> task, ConfigDef definition) {
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
        List<Map<String, String>> tasks = new ArrayList<>();
        for (int i = 0; i < maxTasks; i++) {
            Map<String, String> own = new HashMap<>(properties);
            own.put(TASK, String.valueOf(i));
            tasks.add(own);
        }
        return tasks;
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
