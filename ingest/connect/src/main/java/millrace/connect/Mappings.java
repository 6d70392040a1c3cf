package millrace.connect;

import java.util.ArrayList;
import java.util.HashMap;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;
import java.util.TreeMap;
import org.eclipse.paho.client.mqttv3.MqttTopic;

/** The mappings of a connector, by the filter of topics that each is for; the first that fits is taken. */
final class Mappings {
    static final String NAMES = "mappings";

    private record Route(String match, Mapping mapping) {
    }

    private final List<Route> routes;

    private Mappings(List<Route> routes) {
        this.routes = routes;
    }

    /** From checked properties; raises IllegalArgumentException with the first fault. */
    static Mappings of(Map<String, String> properties) {
        Map<String, List<String>> faults = new TreeMap<>();
        Mappings mappings = read(properties, faults);
        if (!faults.isEmpty()) {
            Map.Entry<String, List<String>> first = faults.entrySet().iterator().next();
            throw new IllegalArgumentException(first.getKey() + ": " + first.getValue().get(0));
        }
        return mappings;
    }

    /** The same, collecting every fault by the name of its property. */
    static Mappings read(Map<String, String> properties, Map<String, List<String>> faults) {
        List<String> names = new ArrayList<>();
        for (String name : properties.getOrDefault(NAMES, "").split(",")) {
            if (!name.isBlank()) {
                names.add(name.strip());
            }
        }
        if (names.isEmpty()) {
            fault(faults, NAMES, "name at least one mapping, such as `readings`, and say what it does in `mappings.readings.prompt`");
        }
        Map<String, Map<String, String>> settings = settings(properties, names, faults);
        List<Route> routes = new ArrayList<>();
        settings.forEach((name, fields) -> routes.add(route(name, fields, faults)));
        return new Mappings(routes);
    }

    private static Map<String, Map<String, String>> settings(
            Map<String, String> properties, List<String> names, Map<String, List<String>> faults) {
        Map<String, Map<String, String>> found = new LinkedHashMap<>();
        names.forEach(name -> found.put(name, new HashMap<>()));
        String prefix = NAMES + ".";
        properties.forEach((property, value) -> {
            if (!property.startsWith(prefix)) {
                return;
            }
            int dot = property.indexOf('.', prefix.length());
            String name = dot < 0 ? "" : property.substring(prefix.length(), dot);
            String field = property.substring(dot + 1);
            if (!found.containsKey(name)) {
                fault(faults, property, "there is no mapping `" + name + "` in `mappings`");
            } else if (!field.equals("match") && !Mapping.FIELDS.contains(field)) {
                fault(faults, property, "there is no `" + field + "`; known: match, "
                        + String.join(", ", Mapping.FIELDS.stream().sorted().toList()));
            } else {
                found.get(name).put(field, value);
            }
        });
        return found;
    }

    private static Route route(String name, Map<String, String> fields, Map<String, List<String>> faults) {
        String prefix = NAMES + "." + name + ".";
        String match = fields.getOrDefault("match", "#");
        try {
            MqttTopic.validate(match, true);
        } catch (IllegalArgumentException error) {
            fault(faults, prefix + "match", "not a filter of topics: " + error.getMessage());
        }
        Map<String, Template> templates = new HashMap<>();
        fields.forEach((field, text) -> {
            if (field.equals("match")) {
                return;
            }
            try {
                templates.put(field, new Template(text, Message.ROOTS));
            } catch (IllegalArgumentException error) {
                fault(faults, prefix + field, error.getMessage());
            }
        });
        if (fields.containsKey("prompt") == fields.containsKey("messages")) {
            fault(faults, prefix + "prompt", "give either `prompt` or `messages`");
        }
        if (fields.containsKey("system") && fields.containsKey("messages")) {
            fault(faults, prefix + "system", "`messages` has its own system message");
        }
        return new Route(match, new Mapping(templates));
    }

    private static void fault(Map<String, List<String>> faults, String property, String what) {
        faults.computeIfAbsent(property, key -> new ArrayList<>()).add(what);
    }

    /** The mapping for messages of `topic`. Raises MappingException where there is none. */
    Mapping of(String topic) throws MappingException {
        for (Route route : routes) {
            if (fits(route.match(), topic)) {
                return route.mapping();
            }
        }
        throw new MappingException("no mapping is for the topic `" + topic + "`");
    }

    private static boolean fits(String match, String topic) {
        try {
            return match.equals("#") || MqttTopic.isMatched(match, topic);
        } catch (IllegalArgumentException error) {
            return false; // a path that could not be a topic: empty, or with a + in it
        }
    }
}
