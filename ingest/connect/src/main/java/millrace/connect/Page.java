package millrace.connect;

import com.fasterxml.jackson.databind.JsonNode;
import java.io.IOException;
import java.util.ArrayList;
import java.util.List;

/** One answer of a polled API: its items, each with the cursor to go on from once it is stored. */
record Page(List<Item> items, String next) {
    /** `cursor` is where to begin after a restart once this item and those before it are stored. */
    record Item(byte[] bytes, String cursor) {
    }

    /**
     * Reads an answer. `page` is the path of the next cursor in it, or empty; then `item` is the path of an item's own.
     * Raises IOException for an answer that has no items where they should be.
     */
    static Page read(byte[] answer, String itemsPath, String page, String item, String cursor) throws IOException {
        JsonNode root = Json.MAPPER.readTree(answer);
        JsonNode array = Json.at(root, itemsPath);
        if (array == null || !array.isArray()) {
            throw new IOException(itemsPath.isEmpty() ? "the answer is not an array" : "there is no array `" + itemsPath + "` in the answer");
        }
        String next = cursor;
        if (!page.isEmpty()) {
            String given = Json.text(Json.at(root, page));
            next = given == null || given.isEmpty() ? cursor : given;
        }
        List<Item> items = new ArrayList<>(array.size());
        for (int i = 0; i < array.size(); i++) {
            if (page.isEmpty()) {
                String own = Json.text(Json.at(array.get(i), item));
                next = own == null ? next : own;
                items.add(new Item(Json.MAPPER.writeValueAsBytes(array.get(i)), next));
            } else {
                // A page is read again from its beginning unless all of it is stored.
                boolean last = i == array.size() - 1;
                items.add(new Item(Json.MAPPER.writeValueAsBytes(array.get(i)), last ? next : cursor));
            }
        }
        return new Page(items, next);
    }
}
