package millrace.connect;

import java.io.IOException;
import java.util.ArrayList;
import java.util.Collection;
import java.util.HashMap;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.connect.errors.ConnectException;
import org.apache.kafka.connect.errors.RetriableException;
import org.apache.kafka.connect.sink.ErrantRecordReporter;
import org.apache.kafka.connect.sink.SinkRecord;
import org.apache.kafka.connect.sink.SinkTask;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Delivers answers, batch by batch. What fails is tried again with growing pauses, without repeating what was
 * delivered; what never can be goes to the dead-letter topic (errors.deadletterqueue.topic.name).
 */
abstract class AnswerSinkTask extends SinkTask {
    private static final Logger LOG = LoggerFactory.getLogger(AnswerSinkTask.class);

    /** Where a record lies. */
    private record Place(TopicPartition partition, long offset) {
        static Place of(SinkRecord record) {
            return new Place(new TopicPartition(record.topic(), record.kafkaPartition()), record.kafkaOffset());
        }
    }

    /** An answer on its way. */
    record Letter(SinkRecord record, Answer answer) {
    }

    private final Set<Place> settled = new HashSet<>();
    private final Map<Place, Integer> attempts = new HashMap<>();
    private final Backoff backoff = new Backoff();
    private Answers answers;
    private String name = "";

    @Override
    public void start(Map<String, String> properties) {
        name = properties.get("name");
        answers = new Answers(properties);
    }

    /** Deliver these; what becomes of each is told to `settle` or `fail`. */
    abstract void deliver(List<Letter> letters) throws InterruptedException;

    /** It was delivered. */
    final void settle(Letter letter) {
        settled.add(Place.of(letter.record()));
    }

    /** It cannot be delivered, now or ever. */
    final void fail(Letter letter, String why) {
        setAside(letter.record(), why);
    }

    /** Delivering failed; after `limit` attempts it is given up. */
    final void retry(Letter letter, String why, int limit) {
        int count = attempts.merge(Place.of(letter.record()), 1, Integer::sum);
        LOG.warn("{}: an answer was not delivered (attempt {}): {}", name, count, why);
        if (count >= limit) {
            setAside(letter.record(), why + ", " + count + " times");
        }
    }

    private void setAside(SinkRecord record, String why) {
        LOG.warn("{}: {}-{}@{} is set aside: {}", name, record.topic(), record.kafkaPartition(), record.kafkaOffset(), why);
        ErrantRecordReporter reporter = context.errantRecordReporter();
        ConnectException reason = new ConnectException(why);
        if (reporter == null) {
            throw new ConnectException("cannot set an answer aside: errors.tolerance is not `all`, or no topic is named", reason);
        }
        try {
            reporter.report(record, reason).get();
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new ConnectException(error);
        } catch (java.util.concurrent.ExecutionException error) {
            throw new ConnectException(error);
        }
        settled.add(Place.of(record));
    }

    @Override
    public void put(Collection<SinkRecord> records) {
        try {
            List<Letter> letters = letters(records);
            if (!letters.isEmpty()) {
                deliver(letters);
            }
        } catch (IOException error) {
            again("the schema registry cannot be asked: " + error);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
            throw new ConnectException(error);
        }
        for (SinkRecord record : records) {
            if (!settled.contains(Place.of(record))) {
                again("not all answers were delivered");
            }
        }
        backoff.reset();
        settled.clear();
        attempts.clear();
    }

    private List<Letter> letters(Collection<SinkRecord> records) throws IOException {
        List<Letter> letters = new ArrayList<>();
        for (SinkRecord record : records) {
            Place place = Place.of(record);
            if (settled.contains(place)) {
                continue;
            }
            try {
                Answer answer = answers.read((byte[]) record.value());
                if (answer == null) {
                    settled.add(place);
                } else {
                    letters.add(new Letter(record, answer));
                }
            } catch (MappingException fault) {
                setAside(record, fault.getMessage());
            }
        }
        return letters;
    }

    private void again(String why) {
        long pauseMs = backoff.pauseMs();
        LOG.warn("{}: {}; trying again in {} ms", name, why, pauseMs);
        context.timeout(pauseMs);
        // Connect gives the same records once more.
        throw new RetriableException(why);
    }

    @Override
    public void close(Collection<TopicPartition> partitions) {
        settled.removeIf(place -> partitions.contains(place.partition()));
        attempts.keySet().removeIf(place -> partitions.contains(place.partition()));
    }

    @Override
    public String version() {
        return "1";
    }
}
