"""Kafka Connect, distributed, one worker: our connectors (ingest/connect) between other systems and the topics."""

from __future__ import annotations

from typing import Final

from infra.local import java
from infra.local.settings import Settings

NAME: Final = "connect"
BYTES: Final = "org.apache.kafka.connect.converters.ByteArrayConverter"
PROVIDERS: Final = "org.apache.kafka.common.config.provider"
LOG4J: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
logger.ours.name = millrace
logger.ours.level = INFO
logger.clients.name = org.apache.kafka.clients
logger.clients.level = ERROR
"""


def properties(settings: Settings) -> dict[str, str]:
    """The worker's properties."""
    return {
        "bootstrap.servers": settings.kafka,
        "group.id": NAME,
        # Our connectors read and write bytes: JSON, and Avro as the registry knows it.
        "key.converter": BYTES,
        "value.converter": BYTES,
        "config.storage.topic": "connect.configs",
        "offset.storage.topic": "connect.offsets",
        "status.storage.topic": "connect.status",
        # One broker: each topic has one replica, and few partitions suffice.
        "config.storage.replication.factor": "1",
        "offset.storage.replication.factor": "1",
        "status.storage.replication.factor": "1",
        "offset.storage.partitions": "2",
        "status.storage.partitions": "1",
        # What a killed worker had not committed is delivered once more, so it commits often.
        "offset.flush.interval.ms": "1000",
        "listeners": f"http://{settings.bind}:{settings.port('CONNECT')}",
        "rest.advertised.host.name": settings.host("CONNECT"),
        "plugin.discovery": "service_load",
        # A worker that comes back after kill -9 gets its tasks as soon as the dead one is known to be dead.
        "scheduled.rebalance.max.delay.ms": "0",
        "session.timeout.ms": "6000",
        "heartbeat.interval.ms": "2000",
        # ${env:NAME} and ${file:PATH:NAME} in a connector's file: passwords need not stand there.
        "config.providers": "env,file",
        "config.providers.env.class": f"{PROVIDERS}.EnvVarConfigProvider",
        "config.providers.file.class": f"{PROVIDERS}.FileConfigProvider",
        "producer.enable.idempotence": "true",
        "producer.max.in.flight.requests.per.connection": "5",
        "producer.linger.ms": "1",
        "producer.compression.type": "lz4",
        "producer.max.request.size": str(8 * 1024 * 1024),
        "consumer.isolation.level": "read_committed",
    }


def prepare(settings: Settings) -> None:
    """Write the properties of the worker and of its log."""
    folder = settings.home / NAME
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j2.properties").write_text(LOG4J)
    lines = "".join(f"{name}={value}\n" for name, value in properties(settings).items())
    (folder / "worker.properties").write_text(lines)


def command(settings: Settings) -> list[str]:
    """The worker's command line."""
    folder = settings.home / NAME
    return java.command(
        settings,
        settings.values["MILLRACE_CONNECT_HEAP"],
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        # Callers of a webhook who send slowly, or do not read their answer, must not keep others out; seconds.
        "-Dsun.net.httpserver.maxReqTime=30",
        "-Dsun.net.httpserver.maxRspTime=90",
        "-cp",
        java.classpath(settings.runtime / NAME),
        "org.apache.kafka.connect.cli.ConnectDistributed",
        str(folder / "worker.properties"),
    )
