"""A real MQTT broker (ActiveMQ Artemis), which keeps sessions and QoS 1 messages in its journal over kill -9."""

from __future__ import annotations

import socket
import subprocess
import time
from contextlib import closing
from pathlib import Path
from typing import Final

from infra.local import java
from infra.local.settings import HOST, Settings

START_S: Final = 60
CONFIGURATION: Final = """\
<configuration xmlns="urn:activemq">
  <core xmlns="urn:activemq:core">
    <name>tests</name>
    <persistence-enabled>true</persistence-enabled>
    <security-enabled>false</security-enabled>
    <jmx-management-enabled>false</jmx-management-enabled>
    <journal-type>NIO</journal-type>
    <paging-directory>{folder}/paging</paging-directory>
    <bindings-directory>{folder}/bindings</bindings-directory>
    <journal-directory>{folder}/journal</journal-directory>
    <large-messages-directory>{folder}/large</large-messages-directory>
    <max-disk-usage>100</max-disk-usage>
    <acceptors>
      <acceptor name="mqtt">tcp://{host}:{port}?protocols=MQTT;useEpoll=false</acceptor>
    </acceptors>
    <address-settings>
      <address-setting match="#">
        <auto-delete-queues>false</auto-delete-queues>
        <auto-delete-addresses>false</auto-delete-addresses>
      </address-setting>
    </address-settings>
  </core>
</configuration>
"""


class Broker:
    """A broker on a port, whose state lies under `folder`."""

    def __init__(self, settings: Settings, folder: Path, port: int) -> None:
        self._settings = settings
        self._folder = folder
        self.port = port
        self.url = f"tcp://{HOST}:{port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, and wait until it listens."""
        (self._folder / "etc").mkdir(parents=True, exist_ok=True)
        text = CONFIGURATION.format(folder=self._folder, host=HOST, port=self.port)
        (self._folder / "etc" / "broker.xml").write_text(text)
        classpath = java.classpath(self._settings.runtime / "mqtt")
        main = "org.apache.activemq.artemis.core.server.embedded.Main"
        command = java.command(
            self._settings, "384m", "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn", "-cp", classpath, main
        )
        with (self._folder / "broker.log").open("ab") as log:
            self._process = subprocess.Popen([*command, str(self._folder)], stdout=log, stderr=log)
        end = time.monotonic() + START_S
        while not self._listens():
            assert self._process.poll() is None and time.monotonic() < end, f"no broker: {self._folder / 'broker.log'}"
            time.sleep(0.1)

    def _listens(self) -> bool:
        with closing(socket.socket()) as probe:
            return probe.connect_ex((HOST, self.port)) == 0

    def kill(self) -> None:
        """kill -9."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(10)
            self._process = None
