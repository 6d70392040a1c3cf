"""Webhooks: the endpoints of a tenant, the events they are told, and which addresses may be called. Pure."""

from __future__ import annotations

import hashlib
import ipaddress
import re
from typing import Final, Literal, get_args
from urllib.parse import urlsplit

import msgspec

EventType = Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
TYPES: Final[tuple[EventType, ...]] = get_args(EventType)
MAX_ENDPOINTS: Final = 8
MAX_SECRETS: Final = 2
MAX_URL: Final = 2_048
_NAME: Final = re.compile(r"[A-Za-z0-9_-]{1,64}", re.ASCII)
_VARIABLE: Final = re.compile(r"[A-Za-z_][A-Za-z0-9_]*", re.ASCII)
# Addresses that carry one of IPv4 in their last four bytes. Source: RFC 6052, section 2.1.
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
# Where a cloud tells its machines their credentials, beside the link-local one.
_METADATA: Final = ipaddress.ip_address("fd00:ec2::254")


class Webhook(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An endpoint that is told of events. `secret_env` names the environment variables that hold its secrets: all that
    is configured is published, so the secrets themselves are not. Two sign at once while one takes the other's place.
    `private` lets it lie in the operator's own network, and be called without TLS.
    """

    url: str
    secret_env: str | tuple[str, ...]
    name: str = "default"
    events: tuple[EventType, ...] = TYPES
    private: bool = False

    @property
    def variables(self) -> tuple[str, ...]:
        """Names of the variables, the newest secret first."""
        return (self.secret_env,) if isinstance(self.secret_env, str) else self.secret_env


def event_id(batch_id: str, event_type: str) -> str:
    """The same for each time that a batch is said to have ended so."""
    return "evt_" + hashlib.sha256(f"{batch_id} {event_type}".encode()).hexdigest()[:32]


def fault(webhook: Webhook) -> tuple[str, str] | None:
    """(field, what is wrong with it) of an endpoint that cannot be; None if it can."""
    if not _NAME.fullmatch(webhook.name):
        return "name", "has 1 to 64 letters, digits, - and _"
    if not webhook.events:
        return "events", "names at least one event"
    if not 1 <= len(webhook.variables) <= MAX_SECRETS or not all(map(_VARIABLE.fullmatch, webhook.variables)):
        return "secret_env", "names one or two environment variables; the secrets themselves do not belong here"
    wrong = _url_fault(webhook.url, webhook.private)
    return ("url", wrong) if wrong else None


def _url_fault(url: str, private: bool) -> str | None:
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        return f"is no URL: {error}"
    if len(url) > MAX_URL or not url.isascii() or not url.isprintable() or " " in url or not host:
        return f"must be an absolute URL of at most {MAX_URL} ASCII characters"
    if parts.username is not None or parts.password is not None or parts.fragment:
        return "must have neither credentials nor a fragment"
    if parts.scheme != "https" and not (private and parts.scheme == "http"):
        return "must be https, or http where `private: true` says that it is in a network of your own"
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return None  # a name; what it stands for is looked at whenever it is called
    return refusal(host, private)


def refusal(address: str, private: bool) -> str | None:
    """Why an IP address is not called; None if it is. Raises ValueError if it is none.

    Link-local ones never are: there, clouds answer anybody who asks with credentials.
    """
    found = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFF_FFFF)
        if inner is not None:
            return refusal(str(inner), private)
    if found.is_link_local or found.is_multicast or found.is_unspecified or found == _METADATA:
        return f"{address} is no address to call"
    if not found.is_global and not private:
        return f"{address} is not public: `private: true` allows it"
    return None
