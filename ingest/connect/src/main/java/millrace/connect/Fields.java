package millrace.connect;

/** What the names in a template stand for. */
@FunctionalInterface
interface Fields {
    /** The text of the field called `name`, or null where there is none. */
    String value(String name) throws MappingException;
}
