"""The broker: Kafka in KRaft mode, one process that is broker and controller."""

from __future__ import annotations

import subprocess
from typing import Final

from infra.local import java
from infra.local.settings import HOST, Settings, Trouble

# Any 16 bytes in base64 will do; fixed, so that a formatted log folder is recognised by every version.
CLUSTER_ID: Final = "TWlsbHJhY2VMb2NhbDAwMQ"
LOG4J: Final = """\
status = error
appender.console.type = Console
appender.console.name = console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} %m%n
rootLogger.level = WARN
rootLogger.appenderRef.console.ref = console
logger.server.name = kafka.server.KafkaRaftServer
logger.server.level = INFO
"""


def _listeners(settings: Settings) -> dict[str, str]:
    bind, controller, users = settings.bind, settings.ports()["KAFKA controller"], settings.ports()["KAFKA users"]
    listeners = [
        f"PLAINTEXT://{bind}:{settings.port('KAFKA')}",
        f"CONTROLLER://{HOST}:{controller}",
        f"USERS://{bind}:{users}",
    ]
    advertised = [f"PLAINTEXT://{HOST}:{settings.port('KAFKA')}", f"USERS://{settings.host('KAFKA')}:{users}"]
    if settings.host("KAFKA") != HOST:
        listeners.append(f"INSIDE://{bind}:{settings.ports()['KAFKA inside']}")
        advertised.append(f"INSIDE://{settings.kafka}")
    return {
        "controller.quorum.voters": f"1@{HOST}:{controller}",
        "listeners": ",".join(listeners),
        "advertised.listeners": ",".join(advertised),
        "controller.listener.names": "CONTROLLER",
        "listener.security.protocol.map": (
            "PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,INSIDE:PLAINTEXT,USERS:SASL_PLAINTEXT"
        ),
        "inter.broker.listener.name": "PLAINTEXT",
        "listener.name.users.sasl.enabled.mechanisms": "SCRAM-SHA-512",
        "listener.name.users.scram-sha-512.sasl.jaas.config": (
            "org.apache.kafka.common.security.scram.ScramLoginModule required;"
        ),
        "authorizer.class.name": "org.apache.kafka.metadata.authorizer.StandardAuthorizer",
        # Whoever reaches a plaintext listener is one of ours and may do all. Here these are on the loopback interface,
        # or inside the network of the containers; on a cluster our processes have users too (docs/producers.md).
        "super.users": "User:ANONYMOUS",
        "allow.everyone.if.no.acl.found": "false",
    }


def properties(settings: Settings) -> dict[str, str]:
    """server.properties of this stack."""
    return {
        **_listeners(settings),
        "process.roles": "broker,controller",
        "node.id": "1",
        "log.dirs": str(settings.home / "kafka" / "logs"),
        "auto.create.topics.enable": "false",
        "num.partitions": "4",
        "message.max.bytes": str(8 * 1024 * 1024),
        "replica.fetch.max.bytes": str(8 * 1024 * 1024),
        # One broker: every internal topic has one replica, and few partitions suffice.
        "offsets.topic.replication.factor": "1",
        "offsets.topic.num.partitions": "4",
        "transaction.state.log.replication.factor": "1",
        "transaction.state.log.min.isr": "1",
        "transaction.state.log.num.partitions": "4",
        "share.coordinator.state.topic.replication.factor": "1",
        "share.coordinator.state.topic.min.isr": "1",
        # Flink's exactly-once sinks keep a transaction open from one checkpoint to the next, over an outage too.
        "transaction.max.timeout.ms": str(24 * 3_600_000),
        "group.initial.rebalance.delay.ms": "0",
        "group.min.session.timeout.ms": "1000",
        "offsets.retention.minutes": str(30 * 24 * 60),
        "log.segment.bytes": str(128 * 1024 * 1024),
        "log.retention.check.interval.ms": "60000",
        "log.cleaner.dedupe.buffer.size": str(8 * 1024 * 1024),
        "log.cleaner.threads": "1",
        "num.network.threads": "2",
        "num.io.threads": "4",
        "background.threads": "2",
        "num.recovery.threads.per.data.dir": "2",
        # A killed broker is let in again only when its old session has ended.
        "broker.session.timeout.ms": "4000",
        "broker.heartbeat.interval.ms": "1000",
    }


def _java(settings: Settings, *rest: str) -> list[str]:
    log4j = settings.home / "kafka" / "log4j2.properties"
    classpath = java.classpath(settings.runtime / "kafka")
    return java.command(
        settings,
        settings.values["MILLRACE_KAFKA_HEAP"],
        f"-Dlog4j2.configurationFile={log4j}",
        "-cp",
        classpath,
        *rest,
    )


def prepare(settings: Settings) -> None:
    """Write the properties, and format the log folder the first time; raises Trouble if that fails."""
    folder = settings.home / "kafka"
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "log4j2.properties").write_text(LOG4J)
    path = folder / "server.properties"
    path.write_text("".join(f"{name}={value}\n" for name, value in properties(settings).items()))
    if (folder / "logs" / "meta.properties").exists():
        return
    tool = _java(settings, "kafka.tools.StorageTool", "format", "-t", CLUSTER_ID, "-c", str(path))
    done = subprocess.run(tool, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise Trouble(f"formatting {folder / 'logs'} failed: {(done.stdout + done.stderr).strip()[-500:]}")


def command(settings: Settings) -> list[str]:
    """The broker's command line."""
    return _java(settings, "kafka.Kafka", str(settings.home / "kafka" / "server.properties"))
