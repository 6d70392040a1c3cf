"""The HTTP API as commands use it: JSON in, JSON out, faults in words.

Every POST of a command may be repeated (it carries an Idempotency-Key, or changes nothing the second time), so a
gateway that is restarted is waited for, once it has answered. One that never answered is told about at once.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TypeVar

import httpx
import orjson

from ingest.cli.fault import Fault
from ingest.cli.session import Address

T = TypeVar("T")

CONNECT_S: Final = 5.0
READ_S: Final = 60.0
# A killed gateway is back within seconds; one that is not within so long has another trouble.
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.5
# The gateway is busy or stopping; the same again may work.
AGAIN: Final = frozenset({502, 503, 504})


class Client:
    """One session with the API. Methods raise Fault."""

    def __init__(self, address: Address, transport: httpx.BaseTransport | None = None) -> None:
        self.url = address.url
        self._http = httpx.Client(
            headers={"authorization": f"Bearer {address.key}", "user-agent": "millrace-cli"},
            timeout=httpx.Timeout(READ_S, connect=CONNECT_S),
            trust_env=not _is_loopback(address.url),
            transport=transport,
        )
        self._answered = False

    def get(self, path: str, *, patience_s: float = PATIENCE_S, **query: Any) -> Any:
        """The JSON at a path below /v1; what is None is left out of the query."""
        params = {k: v for k, v in query.items() if v is not None}
        return self.send("GET", path, patience_s=patience_s, params=params)

    def post(self, path: str, body: Any = None, key: str = "", **more: Any) -> Any:
        """The JSON answer to a JSON body, sent under an Idempotency-Key if one is given."""
        headers = {"idempotency-key": key} if key else {}
        if body is not None:
            more["content"] = orjson.dumps(body)
            headers["content-type"] = "application/json"
        return self.send("POST", path, headers=headers, **more)

    def send(self, method: str, path: str, *, patience_s: float = PATIENCE_S, **more: Any) -> Any:
        """The JSON answer to one request, repeated for `patience_s` while the gateway is away."""

        def once() -> Any:
            response = self._http.request(method, self.url + path, **more)
            self._check(response)
            return _json(response.content, response.status_code)

        return self._patiently(once, patience_s)

    @contextmanager
    def stream(self, method: str, path: str, **more: Any) -> Iterator[httpx.Response]:
        """An answer that is read as it comes. Not repeated: what was read of it cannot be read again."""
        try:
            with self._http.stream(method, self.url + path, **more) as response:
                if response.is_error:
                    response.read()
                self._check(response)
                yield response
        except httpx.HTTPError as error:
            raise self._broken(error) from None

    def _patiently(self, call: Callable[[], T], patience_s: float) -> T:
        """What `call` returns, called again while the gateway is away that was there before."""
        end: float | None = None
        while True:
            try:
                return call()
            except httpx.InvalidURL as error:
                raise Fault(f"{self.url} is no address: {error}", code="invalid_url") from None
            except httpx.HTTPError as error:
                fault = self._broken(error)
            except Fault as error:
                if error.status not in AGAIN:
                    raise
                fault = error
            # From the first failure: an answer may have been long in coming before.
            end = time.monotonic() + patience_s if end is None else end
            if not self._answered or time.monotonic() >= end:
                raise fault
            time.sleep(PAUSE_S)

    def _check(self, response: httpx.Response) -> None:
        """Raises Fault unless the answer is a good one."""
        if response.status_code not in AGAIN:
            self._answered = True
        if response.is_success:
            return
        raise self._refused(response)

    def _refused(self, response: httpx.Response) -> Fault:
        status = response.status_code
        try:
            error = orjson.loads(response.content)["error"]
            message, code, param = str(error["message"]), str(error.get("code")), error.get("param")
        except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):
            message = f"{self.url} answered {status} {response.reason_phrase}, not as Millrace does: is it one?"
            return Fault(message, code="unexpected_answer", status=status)
        if status == 401:
            message = f"{self.url} does not know this key ({message.rstrip('.')}): see MILLRACE_API_KEY"
        return Fault(message, code=code, status=status, param=param)

    def _broken(self, error: httpx.HTTPError) -> Fault:
        if isinstance(error, httpx.UnsupportedProtocol):
            return Fault(f"{self.url} is no address: it begins with http:// or https://", code="invalid_url")
        if isinstance(error, httpx.ConnectError | httpx.ConnectTimeout):
            hint = "is the stack up (`make up`), is MILLRACE_URL right?"
            return Fault(f"nothing answers at {self.url}: {hint}", code="unreachable")
        what = "did not answer in time" if isinstance(error, httpx.TimeoutException) else "broke off"
        return Fault(f"{self.url} {what} ({error or type(error).__name__})", code="connection_broken")


def _json(data: bytes, status: int) -> Any:
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        message = "the answer is not JSON: is it Millrace that answers?"
        raise Fault(message, code="unexpected_answer", status=status) from None


def _is_loopback(url: str) -> bool:
    """Whether a proxy has no business with it."""
    host = httpx.URL(url).host
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
