package millrace.connect;

import java.util.Arrays;
import java.util.List;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.eclipse.paho.client.mqttv3.IMqttDeliveryToken;
import org.eclipse.paho.client.mqttv3.IMqttToken;
import org.eclipse.paho.client.mqttv3.MqttAsyncClient;
import org.eclipse.paho.client.mqttv3.MqttCallback;
import org.eclipse.paho.client.mqttv3.MqttException;
import org.eclipse.paho.client.mqttv3.MqttMessage;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * A persistent session with a broker: connects, subscribes at QoS 1, and connects again whenever the connection is
 * lost. Messages wait in `arrivals` and are not acknowledged here.
 */
final class MqttSession implements Runnable {
    private static final Logger LOG = LoggerFactory.getLogger(MqttSession.class);
    private static final int REFUSED = 0x80;
    private static final long START_S = 5;

    private final Map<String, String> properties;
    private final List<String> filters;
    private final List<String> former;
    private final Budget budget;
    private final BlockingQueue<MqttArrival> arrivals = new LinkedBlockingQueue<>();
    private final Thread thread;
    private final CountDownLatch ready = new CountDownLatch(1);
    private boolean subscribed;

    /** `former` are filters that an earlier configuration had, which the broker may still hold for us. */
    MqttSession(Map<String, String> properties, List<String> filters, List<String> former, Budget budget) {
        this.properties = properties;
        this.filters = filters;
        this.former = former.stream().filter(filter -> !filters.contains(filter)).toList();
        this.budget = budget;
        thread = new Thread(this, "mqtt-" + properties.get("name"));
        thread.setDaemon(true);
    }

    /**
     * Returns once the broker has the filters, so that what is sent to a task that is shown as running arrives. A
     * broker that is away is waited for only so long: then the session goes on trying by itself.
     */
    void start() {
        thread.start();
        try {
            ready.await(START_S, TimeUnit.SECONDS);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    void stop() {
        budget.close();
        thread.interrupt();
        try {
            thread.join(5_000);
        } catch (InterruptedException error) {
            Thread.currentThread().interrupt();
        }
    }

    BlockingQueue<MqttArrival> arrivals() {
        return arrivals;
    }

    @Override
    public void run() {
        Backoff backoff = new Backoff();
        try {
            while (true) {
                // Not before there is room: a connection that cannot be read from would be lost again.
                budget.awaitRoom();
                live(backoff);
                backoff.pause();
            }
        } catch (InterruptedException error) {
            LOG.info("{}: the session rests at the broker", properties.get("name"));
        }
    }

    /** One connection, until it is lost. */
    private void live(Backoff backoff) throws InterruptedException {
        MqttConnection connection = null;
        try {
            MqttAsyncClient client = Mqtt.client(properties, Mqtt.clientId(properties));
            connection = new MqttConnection(client);
            CountDownLatch lost = new CountDownLatch(1);
            client.setManualAcks(true);
            client.setCallback(new Receiver(connection, lost));
            IMqttToken connected = client.connect(Mqtt.options(properties, false));
            connected.waitForCompletion(Mqtt.WAIT_MS);
            // Subscribing anew to what the session still has would bring its retained messages once more.
            if (!subscribed || !connected.getSessionPresent()) {
                subscribe(client);
            }
            ready.countDown();
            LOG.info("{}: connected to {}", properties.get("name"), properties.get(Mqtt.URL));
            backoff.reset();
            lost.await();
        } catch (MqttException error) {
            LOG.warn("{}: {} cannot be used, trying again: {}", properties.get("name"), properties.get(Mqtt.URL), error.toString());
        } finally {
            if (connection != null) {
                connection.close();
            }
        }
    }

    private void subscribe(MqttAsyncClient client) throws MqttException {
        for (String filter : former) {
            client.unsubscribe(filter).waitForCompletion(Mqtt.WAIT_MS);
        }
        int[] qos = new int[filters.size()];
        Arrays.fill(qos, 1);
        IMqttToken token = client.subscribe(filters.toArray(String[]::new), qos);
        token.waitForCompletion(Mqtt.WAIT_MS);
        int[] granted = token.getGrantedQos();
        for (int i = 0; i < granted.length; i++) {
            if (granted[i] == REFUSED) {
                throw new MqttException(new IllegalStateException("the broker refuses the filter " + filters.get(i)));
            }
            if (granted[i] == 0) {
                LOG.warn("{}: the broker grants only QoS 0 for {}: what it sends while we are away is lost",
                        properties.get("name"), filters.get(i));
            }
        }
        subscribed = true;
    }

    /** Puts what arrives into the queue. */
    private final class Receiver implements MqttCallback {
        private final MqttConnection connection;
        private final CountDownLatch lost;

        Receiver(MqttConnection connection, CountDownLatch lost) {
            this.connection = connection;
            this.lost = lost;
        }

        @Override
        public void connectionLost(Throwable cause) {
            LOG.warn("{}: the connection to {} is lost: {}", properties.get("name"), properties.get(Mqtt.URL), String.valueOf(cause));
            lost.countDown();
        }

        @Override
        public void messageArrived(String topic, MqttMessage message) throws InterruptedException {
            budget.take(message.getPayload().length);
            arrivals.add(new MqttArrival(connection, topic, message.getPayload(), message.getId(), message.getQos()));
        }

        @Override
        public void deliveryComplete(IMqttDeliveryToken token) {
            // Nothing is published here.
        }
    }
}
