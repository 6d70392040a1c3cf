"""Where the parts of a running system are, as its processes are told by their environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Addresses:
    """Addresses and credentials of one stack, and the name of this process in it."""

    service: str
    home: Path
    kafka: str
    registry: str
    s3: str
    s3_access_key: str
    s3_secret_key: str
    bucket: str
    redis: str
    http_host: str
    http_port: int
    # Where a worker or the compactor tells its signals; 0 for nowhere.
    signals_port: int
    # Flink's REST interface, and Kafka Connect's; nobody may be there.
    flink: str = ""
    connect: str = ""

    @classmethod
    def of(cls, env: Mapping[str, str]) -> Addresses:
        """Read from environment variables; KeyError names the one that is missing."""
        return cls(
            service=env["MILLRACE_SERVICE"],
            home=Path(env["MILLRACE_HOME"]),
            kafka=env["MILLRACE_KAFKA"],
            registry=env["MILLRACE_REGISTRY"],
            s3=env["MILLRACE_S3"],
            s3_access_key=env["MILLRACE_S3_ACCESS_KEY"],
            s3_secret_key=env["MILLRACE_S3_SECRET_KEY"],
            bucket=env["MILLRACE_BUCKET"],
            redis=env["MILLRACE_REDIS"],
            http_host=env.get("MILLRACE_HTTP_HOST", "127.0.0.1"),
            http_port=int(env.get("MILLRACE_HTTP_PORT", "8080")),
            signals_port=int(env.get("MILLRACE_SIGNALS_PORT", "0")),
            flink=env.get("MILLRACE_FLINK", ""),
            connect=env.get("MILLRACE_CONNECT", ""),
        )
