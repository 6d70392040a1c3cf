package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import java.util.Map;
import java.util.Set;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.params.ParameterizedTest;
import org.junit.jupiter.params.provider.CsvSource;

class TemplateTest {
    private static final Set<String> ROOTS = Set.of("payload", "topic");

    private static String render(String text) throws MappingException {
        return new Template(text, ROOTS).render(Map.of("payload.a", "x", "topic.1", "d7")::get);
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', value = {
        "plain#plain", "{payload.a}#x", "<{ payload.a }>#<x>", "{topic.1}:{payload.a}#d7:x", "{payload.b|none}#none",
        "{payload.b|}!#!", "{{payload.a}}#{payload.a}", "{payload.a|y}#x", "a }} b#a } b"})
    void fieldsAreFilledIn(String template, String wanted) throws MappingException {
        assertEquals(wanted, render(template));
    }

    @ParameterizedTest
    @CsvSource(delimiter = '#', value = {"{payload.a#is not closed", "a } b#closes nothing", "{paylod.a}#no field `paylod.a`", "{}#no field"})
    void faultsAreNamed(String template, String why) {
        String message = assertThrows(IllegalArgumentException.class, () -> render(template)).getMessage();
        assertTrue(message.contains(why), message);
    }

    @Test
    void whatIsMissingHasItsName() {
        assertEquals("there is no `payload.z`", assertThrows(MappingException.class, () -> render("{payload.z}")).getMessage());
    }
}
