"""MQTT clients of devices: publish at QoS 1, and hear what comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any, Final

import paho.mqtt.client as mqtt
from paho.mqtt.enums import CallbackAPIVersion

from infra.local.settings import HOST

WAIT_S: Final = 60.0

Hear = Callable[[str, bytes], None]


class Device:
    """A device with a persistent session; it connects again by itself. `heard` are (topic, payload) that came."""

    def __init__(self, name: str, port: int, *, listens: str = "", hear: Hear | None = None) -> None:
        self.heard: list[tuple[str, bytes]] = []
        self._listens, self._hear = listens, hear
        self._subscribed = threading.Event()
        self._sent = self._taken = 0
        client = mqtt.Client(CallbackAPIVersion.VERSION2, client_id=name, clean_session=False)
        client.reconnect_delay_set(1, 2)
        client.max_inflight_messages_set(100)
        client.on_connect, client.on_message, client.on_publish = self._connected, self._message, self._published
        client.on_subscribe = self._acknowledged
        client.connect(HOST, port)
        client.loop_start()
        self._client = client
        if listens:
            assert self._subscribed.wait(WAIT_S), f"{name} could not subscribe"

    def _connected(self, client: mqtt.Client, *rest: Any) -> None:
        del rest
        if self._listens:
            client.subscribe(self._listens, qos=1)

    def _acknowledged(self, *rest: Any) -> None:
        del rest
        self._subscribed.set()

    def _published(self, *rest: Any) -> None:
        del rest
        self._taken += 1

    def _message(self, client: mqtt.Client, data: Any, message: mqtt.MQTTMessage) -> None:
        del client, data
        self.heard.append((message.topic, message.payload))
        if self._hear:
            self._hear(message.topic, message.payload)

    def publish(self, topic: str, payload: bytes | str) -> None:
        """Send at QoS 1 in the background, over as many connections as it takes."""
        self._sent += 1
        self._client.publish(topic, payload, qos=1)

    def wait(self, timeout_s: float = WAIT_S) -> None:
        """Until the broker has acknowledged all."""
        end = time.monotonic() + timeout_s
        while self._taken < self._sent:
            assert time.monotonic() < end, f"the broker has acknowledged {self._taken} of {self._sent} messages"
            time.sleep(0.02)

    def close(self) -> None:
        """Go away; the broker keeps the session."""
        self._client.disconnect()
        self._client.loop_stop()
