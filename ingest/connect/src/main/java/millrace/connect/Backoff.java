package millrace.connect;

import java.util.concurrent.ThreadLocalRandom;

/** Pauses that double from half a second to half a minute, each shortened by chance. Not for several threads. */
final class Backoff {
    static final long FIRST_MS = 500;
    static final long LAST_MS = 30_000;

    private long nextMs = FIRST_MS;

    /** How long to pause now, in ms; the next one is twice as long. */
    long pauseMs() {
        long pauseMs = nextMs;
        nextMs = Math.min(LAST_MS, nextMs * 2);
        return pauseMs - ThreadLocalRandom.current().nextLong(pauseMs / 4 + 1);
    }

    /** Pause. */
    void pause() throws InterruptedException {
        Thread.sleep(pauseMs());
    }

    /** It worked: begin with the short pauses again. */
    void reset() {
        nextMs = FIRST_MS;
    }
}
