"""An MQTT broker for tests and benchmarks."""
