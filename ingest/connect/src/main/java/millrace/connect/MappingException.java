package millrace.connect;

/** A message that cannot become a request; the text says why, for people. */
public final class MappingException extends Exception {
    private static final long serialVersionUID = 1L;

    public MappingException(String reason) {
        super(reason, null, false, false);
    }
}
