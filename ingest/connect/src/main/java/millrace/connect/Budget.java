package millrace.connect;

/** How many bytes may lie between their arrival and Kafka's acknowledgement. For several threads. */
final class Budget {
    /** What a message costs beside its payload: objects, record, headers. */
    private static final int EACH_BYTES = 1024;

    private final long limit;
    private long used;
    private boolean closed;

    Budget(long limit) {
        this.limit = limit;
    }

    private static long cost(int bytes) {
        return (long) bytes + EACH_BYTES;
    }

    /** Take room for a message, waiting for it; one that is larger than all there is waits to be alone. */
    synchronized void take(int bytes) throws InterruptedException {
        while (!closed && used > 0 && used + cost(bytes) > limit) {
            wait();
        }
        if (closed) {
            throw new InterruptedException("closed");
        }
        used += cost(bytes);
    }

    /** The same without waiting; false if there is no room. */
    synchronized boolean tryTake(int bytes) {
        if (used > 0 && used + cost(bytes) > limit) {
            return false;
        }
        used += cost(bytes);
        return true;
    }

    /** Give the room of a message back. */
    synchronized void give(int bytes) {
        used -= cost(bytes);
        notifyAll();
    }

    /** Nobody gets room any more; those who wait are let go with an InterruptedException. */
    synchronized void close() {
        closed = true;
        notifyAll();
    }

    /** Wait until nobody would have to wait. */
    synchronized void awaitRoom() throws InterruptedException {
        while (used >= limit) {
            wait();
        }
    }
}
