"""Connectors of a configuration: a JSON file each, in the folder `connectors`, carried to Kafka Connect.

Source: https://kafka.apache.org/documentation/#connect_rest
"""

from __future__ import annotations

import time
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import httpx
import orjson

from ingest.documents import DocumentError
from schemas import topics

FOLDER: Final = "connectors"
CLASS: Final = "connector.class"
PACKAGE: Final = "millrace.connect."
SINKS: Final = frozenset({"MqttSinkConnector", "HttpSinkConnector"})
TIMEOUT_S: Final = 20.0
# A worker that has just started, or lost another one, refuses changes for some seconds.
BUSY_S: Final = 60.0
SETTLE_S: Final = 20.0
POLL_S: Final = 0.25

Config = dict[str, str]
Connectors = Mapping[str, Config]


class ConnectError(Exception):
    """Kafka Connect did not take what is in order, or is not there; one line."""


def read(folder: Path, tenants: Collection[str]) -> Connectors:
    """Connectors by name, the name of their file, as Connect wants them. Raises DocumentError."""
    found: dict[str, Config] = {}
    for path in sorted((folder / FOLDER).glob("*.json")):
        found[path.stem] = _complete(path, _load(path), tenants)
    return found


def _load(path: Path) -> Config:
    try:
        data = orjson.loads(path.read_bytes())
    except orjson.JSONDecodeError as error:
        raise DocumentError((str(path), error.lineno), f"not JSON: {error.msg}") from None
    except OSError as error:
        raise DocumentError((str(path), 0), f"cannot be read: {error.strerror}") from None
    if not isinstance(data, dict):
        raise DocumentError((str(path), 1), "a connector is a JSON object of settings")
    for key, value in data.items():
        if isinstance(value, dict | list) or value is None:
            raise DocumentError((str(path), 0), f"{key}: must be text, a number, true or false")
    return {k: v if isinstance(v, str) else orjson.dumps(v).decode() for k, v in data.items()}


def _complete(path: Path, config: Config, tenants: Collection[str]) -> Config:
    """With what we add: its name, and where a sink of ours puts what cannot be delivered."""
    kind = config.get(CLASS, "")
    if not kind:
        raise DocumentError((str(path), 0), f"{CLASS}: is missing, such as {PACKAGE}MqttSourceConnector")
    if config.get("name", path.stem) != path.stem:
        raise DocumentError((str(path), 0), f"name: must be that of the file, {path.stem}, or be left out")
    whole = {"tasks.max": "1", **config, "name": path.stem}
    if not kind.startswith(PACKAGE):
        return whole
    tenant = config.get("tenant", "")
    if tenant not in tenants:
        raise DocumentError((str(path), 0), f"tenant: there is no tenant {tenant!r} in this configuration")
    if kind.removeprefix(PACKAGE) not in SINKS:
        return whole
    return {
        "topics": topics.RESPONSES,
        "errors.tolerance": "all",
        "errors.deadletterqueue.topic.name": topics.undelivered(tenant).name,
        "errors.deadletterqueue.context.headers.enable": "true",
        **whole,
    }


def needed_topics(connectors: Iterable[Config]) -> list[topics.Topic]:
    """Topics that these connectors need beside the others."""
    queue = "errors.deadletterqueue.topic.name"
    tenants = {c["tenant"] for c in connectors if c.get(queue) == topics.undelivered(c.get("tenant", "")).name}
    return [topics.undelivered(tenant) for tenant in sorted(tenants)]


class Connect:
    """Kafka Connect at `url`. Raises ConnectError."""

    def __init__(self, url: str) -> None:
        self._url = url

    def running(self) -> bool:
        """Whether it answers."""
        try:
            return httpx.get(f"{self._url}/", timeout=2).status_code == 200
        except httpx.HTTPError:
            return False

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """The answer to a request, which is repeated while Connect deals out its tasks."""
        end = time.monotonic() + BUSY_S
        while True:
            try:
                answer = httpx.request(method, self._url + path, json=body, timeout=TIMEOUT_S)
            except httpx.HTTPError as error:
                raise ConnectError(f"Kafka Connect at {self._url} does not answer: {error}") from None
            # 409: it is dealing out its tasks anew.
            if answer.status_code not in (409, 503) or time.monotonic() > end:
                break
            time.sleep(POLL_S)
        if answer.status_code >= 400:
            raise ConnectError(f"Kafka Connect refused {method} {path}: {_reason(answer)}")
        return answer.json() if answer.content else None

    def check(self, folder: Path, wanted: Connectors) -> None:
        """Raises DocumentError with every fault of the connectors in a folder."""
        if wanted and not self.running():
            count = f"{len(wanted)} connector{'s' if len(wanted) > 1 else ''}"
            raise ConnectError(f"{folder / FOLDER} has {count}, but Kafka Connect does not run: `make up CONNECT=1`")
        faults = [(folder / FOLDER / f"{name}.json", text) for name, c in wanted.items() for text in self.faults(c)]
        if faults:
            (first, what), *rest = faults
            raise DocumentError((str(first), 0), "\n".join([what, *(f"{path}: {text}" for path, text in rest)]))

    def apply(self, wanted: Connectors) -> None:
        """Let exactly these run, and wait until they do. Nobody needs to be there where there are none."""
        if wanted or self.running():
            self.put(wanted)
            self.settled(wanted)

    def faults(self, config: Config) -> list[str]:
        """What Connect and the connector find wrong in a configuration, a line each."""
        path = f"/connector-plugins/{config[CLASS]}/config/validate"
        found = self.call("PUT", path, config)["configs"]
        values = [entry["value"] for entry in found]
        return [f"{value['name']}: {text}" for value in values for text in value["errors"]]

    def put(self, connectors: Connectors) -> None:
        """Make exactly these exist; those that failed are started again."""
        for name in self.call("GET", "/connectors"):
            if name not in connectors:
                self.call("DELETE", f"/connectors/{name}")
        for name, config in connectors.items():
            self.call("PUT", f"/connectors/{name}/config", config)
            if self.failure(name):
                self.call("POST", f"/connectors/{name}/restart?includeTasks=true&onlyFailed=true")

    def settled(self, names: Iterable[str]) -> None:
        """Wait until all of these run. ConnectError says why one does not."""
        end = time.monotonic() + SETTLE_S
        for name in names:
            while not self._runs(name):
                if time.monotonic() > end:
                    raise ConnectError(
                        f"connector {name} does not run: {self.failure(name) or 'it has not started yet'}"
                    )
                time.sleep(POLL_S)

    def _status(self, name: str) -> dict[str, Any]:
        try:
            status: dict[str, Any] = self.call("GET", f"/connectors/{name}/status")
        except ConnectError:
            return {"connector": {"state": "UNASSIGNED"}, "tasks": []}  # it is too new to be known
        return status

    def _runs(self, name: str) -> bool:
        status = self._status(name)
        states = [status["connector"]["state"], *(task["state"] for task in status["tasks"])]
        return len(states) > 1 and set(states) == {"RUNNING"}

    def failure(self, name: str) -> str:
        """Why a connector or one of its tasks failed; empty if none did."""
        status = self._status(name)
        failed = [part for part in (status["connector"], *status["tasks"]) if part["state"] == "FAILED"]
        return next((_first_cause(part.get("trace", "")) for part in failed), "")


def _reason(answer: httpx.Response) -> str:
    try:
        return str(answer.json()["message"]).splitlines()[0]
    except (ValueError, KeyError, IndexError):
        return f"HTTP {answer.status_code}"


def _first_cause(trace: str) -> str:
    """The innermost cause's line of a Java stack trace."""
    lines = [line for line in trace.splitlines() if line and not line.startswith("\t")]
    return lines[-1].removeprefix("Caused by: ") if lines else "no reason given"
