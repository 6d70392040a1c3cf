package millrace.connect;

import java.util.ArrayList;
import java.util.List;
import java.util.Set;

/**
 * Text with fields in it: {@code {payload.text}}, or {@code {payload.text|what to take where it is missing}}.
 * {@code {{} and {@code }}} are the braces themselves.
 */
final class Template {
    /** A piece of text, or a field with its default (null for none). */
    private record Piece(String text, boolean field, String otherwise) {
    }

    private final List<Piece> pieces = new ArrayList<>();

    /** Raises IllegalArgumentException saying what is wrong with `text`. `roots` are the first words fields may have. */
    Template(String text, Set<String> roots) {
        StringBuilder plain = new StringBuilder();
        int i = 0;
        while (i < text.length()) {
            char c = text.charAt(i);
            boolean twice = i + 1 < text.length() && text.charAt(i + 1) == c;
            if ((c == '{' || c == '}') && twice) {
                plain.append(c);
                i += 2;
            } else if (c == '}') {
                throw new IllegalArgumentException("`}` at " + i + " closes nothing; write `}}` for the brace itself");
            } else if (c == '{') {
                int end = text.indexOf('}', i);
                if (end < 0) {
                    throw new IllegalArgumentException("`{` at " + i + " is not closed; write `{{` for the brace itself");
                }
                if (!plain.isEmpty()) {
                    pieces.add(new Piece(plain.toString(), false, null));
                    plain.setLength(0);
                }
                pieces.add(field(text.substring(i + 1, end), roots));
                i = end + 1;
            } else {
                plain.append(c);
                i++;
            }
        }
        if (!plain.isEmpty()) {
            pieces.add(new Piece(plain.toString(), false, null));
        }
    }

    private static Piece field(String inside, Set<String> roots) {
        int bar = inside.indexOf('|');
        String name = (bar < 0 ? inside : inside.substring(0, bar)).strip();
        int dot = name.indexOf('.');
        if (!roots.contains(dot < 0 ? name : name.substring(0, dot))) {
            throw new IllegalArgumentException(
                    "there is no field `" + name + "` here; fields begin with " + String.join(", ", roots.stream().sorted().toList()));
        }
        return new Piece(name, true, bar < 0 ? null : inside.substring(bar + 1));
    }

    /** The text with its fields filled in. Raises MappingException naming a field that is missing. */
    String render(Fields fields) throws MappingException {
        StringBuilder out = new StringBuilder();
        for (Piece piece : pieces) {
            if (!piece.field()) {
                out.append(piece.text());
                continue;
            }
            String value = fields.value(piece.text());
            if (value == null) {
                value = piece.otherwise();
            }
            if (value == null) {
                throw new MappingException("there is no `" + piece.text() + "`");
            }
            out.append(value);
        }
        return out.toString();
    }
}
