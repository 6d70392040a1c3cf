package millrace.connect;

/** A message, and the connection it came by with its number there. */
record MqttArrival(MqttConnection connection, String topic, byte[] payload, int id, int qos) {
    /**
     * Acknowledge it on the connection it came by only: on another one the broker may have given the same number to
     * another message, which would then be lost.
     */
    void acknowledge() {
        connection.acknowledge(id, qos);
    }
}
