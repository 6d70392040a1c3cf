package millrace.connect;

import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import org.apache.kafka.common.config.Config;
import org.apache.kafka.common.config.ConfigDef;
import org.apache.kafka.common.config.ConfigDef.Importance;
import org.apache.kafka.common.config.ConfigDef.Type;
import org.apache.kafka.common.config.ConfigException;
import org.apache.kafka.common.config.ConfigValue;

/** Settings that our connectors share, and what makes a misspelled one a fault. */
final class Settings {
    static final String TENANT = "tenant";
    static final String REGISTRY = "schema.registry.url";
    /** Names, or beginnings of names, of what Connect itself reads from a connector's configuration. */
    private static final Set<String> FRAMEWORK = Set.of(
            "name", "connector.class", "connector.plugin.version", "tasks.max", "tasks.max.enforce", "topics",
            "topics.regex", "config.action.reload", "exactly.once.support", "offsets.storage.topic", "key.converter",
            "value.converter", "header.converter", "transforms", "predicates", "errors.", "topic.creation.",
            "transaction.boundary", "producer.override.", "consumer.override.", "admin.override.");

    private Settings() {
    }

    /** The definition every connector begins with. */
    static ConfigDef definition() {
        return new ConfigDef()
                .define(TENANT, Type.STRING, ConfigDef.NO_DEFAULT_VALUE, matching("[A-Za-z0-9._-]{1,200}"),
                        Importance.HIGH, "Whose requests or answers these are.")
                .define(REGISTRY, Type.STRING, "", Importance.LOW,
                        "The schema registry's Confluent interface; that of this stack by default.");
    }

    /** The same for sources, which map messages to requests. */
    static ConfigDef source() {
        return definition().define(Mappings.NAMES, Type.LIST, List.of(), Importance.HIGH,
                "Names of the mappings; mappings.NAME.prompt and so on say what each does.");
    }

    static String registry(Map<String, String> properties) {
        String given = properties.getOrDefault(REGISTRY, "");
        return given.isEmpty() ? System.getenv("MILLRACE_REGISTRY") : given;
    }

    /** Adds the faults of mappings, and every property that nobody reads, to what the definition found. */
    static Config check(Config found, ConfigDef definition, Map<String, String> properties) {
        Map<String, List<String>> faults = new TreeMap<>();
        boolean maps = definition.names().contains(Mappings.NAMES);
        if (maps) {
            Mappings.read(properties, faults);
        }
        for (String property : properties.keySet()) {
            boolean mapping = maps && property.startsWith(Mappings.NAMES + ".");
            boolean framework = FRAMEWORK.stream().anyMatch(
                    known -> property.equals(known) || property.startsWith(known.endsWith(".") ? known : known + "."));
            if (!definition.names().contains(property) && !mapping && !framework) {
                faults.put(property, List.of("nobody reads this; known: "
                        + String.join(", ", definition.names().stream().sorted().toList())));
            }
        }
        List<ConfigValue> values = new ArrayList<>(found.configValues());
        faults.forEach((property, texts) -> {
            ConfigValue value = values.stream().filter(v -> v.name().equals(property)).findFirst().orElse(null);
            if (value == null) {
                value = new ConfigValue(property, properties.get(property), List.of(), new ArrayList<>());
                values.add(value);
            }
            texts.forEach(value::addErrorMessage);
        });
        return new Config(values);
    }

    /** A validator for strings that match `pattern` whole. */
    static ConfigDef.Validator matching(String pattern) {
        return ConfigDef.LambdaValidator.with((name, value) -> {
            if (value != null && !String.valueOf(value).matches(pattern)) {
                throw new ConfigException(name, value, "must match " + pattern);
            }
        }, () -> pattern);
    }

    /** A validator for templates whose fields begin with one of `roots`. */
    static ConfigDef.Validator template(Set<String> roots) {
        return ConfigDef.LambdaValidator.with((name, value) -> {
            try {
                new Template(String.valueOf(value), roots);
            } catch (IllegalArgumentException error) {
                throw new ConfigException(name, value, error.getMessage());
            }
        }, () -> "a template");
    }
}
