package millrace.connect;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertThrows;

import java.io.IOException;
import java.nio.charset.StandardCharsets;
import java.util.List;
import org.junit.jupiter.api.Test;

class PageTest {
    private static Page page(String answer, String items, String page, String item) throws IOException {
        return Page.read(answer.getBytes(StandardCharsets.UTF_8), items, page, item, "c0");
    }

    private static List<String> cursors(Page page) {
        return page.items().stream().map(Page.Item::cursor).toList();
    }

    @Test
    void aPagesCursorCountsOnceItsLastItemIsStored() throws IOException {
        Page page = page("{\"data\": {\"list\": [{\"n\": 1}, {\"n\": 2}]}, \"next\": \"c1\"}", "data.list", "next", "");
        assertEquals(List.of("c0", "c1"), cursors(page));
        assertEquals("c1", page.next());
        assertEquals("{\"n\":1}", new String(page.items().get(0).bytes(), StandardCharsets.UTF_8));
    }

    @Test
    void anItemsOwnCursorCountsAtOnce() throws IOException {
        Page page = page("[{\"id\": 41}, {\"id\": 42}]", "", "", "id");
        assertEquals(List.of("41", "42"), cursors(page));
        assertEquals("42", page.next());
    }

    @Test
    void withoutANextCursorTheOldOneStays() throws IOException {
        assertEquals("c0", page("{\"data\": [], \"next\": null}", "data", "next", "").next());
        assertEquals("c0", page("[]", "", "", "id").next());
    }

    @Test
    void anAnswerOfAnotherShapeIsAFault() {
        assertEquals("there is no array `data` in the answer",
                assertThrows(IOException.class, () -> page("{\"data\": 1}", "data", "next", "")).getMessage());
        assertThrows(IOException.class, () -> page("<html>", "data", "next", ""));
    }
}
