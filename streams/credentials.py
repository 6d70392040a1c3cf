"""Keys, tokens and passwords of machines in a text: formats known to detect-secrets, and a few it does not know. Pure.

Of that library only the patterns and the offline proofs are used; nothing here asks a server whether a key is alive.
Its patterns run on RE2, which a hostile text cannot slow down.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any, Final, NamedTuple

import re2

# Of formats without a longest form (signed tokens, private keys) so much is proven as a whole; a longer one is taken
# for genuine, and all that goes on with it belongs to it.
LONGEST: Final = 4096
_MORE: Final = re.compile(r"[A-Za-z0-9+/\\\n=_.\-]*")


class Format(NamedTuple):
    """A format of keys in the plain view of a text: an RE2 pattern, and what says whether a match is one."""

    pattern: str
    proves: Callable[[str], bool]

    def find(self, text: str, start: int) -> Iterator[tuple[int, int]]:
        """Spans of those that begin at `start` or later."""
        for match in _compiled(self.pattern).finditer(text, start):
            first, end = match.span()
            if end - first > LONGEST:
                yield first, more(text, first + LONGEST)
            elif self.proves(match[0]):
                yield first, end


def more(text: str, start: int) -> int:
    """Where that ends which belongs to a key too long to be proven, of which all before `start` is known."""
    match = _MORE.match(text, start)
    return match.end() if match else start


@cache
def _compiled(pattern: str) -> Any:
    options = re2.Options()
    options.log_errors = False
    return re2.compile(pattern, options)


def _always(_: str) -> bool:
    return True


def _random(match: str) -> bool:
    """Whether it reads like chance: names that only begin like a key are words and hyphens."""
    longest = max(re.split(r"[-_]", match), key=len)
    return len(longest) >= 16 and any(c.isdigit() for c in match)


# Formats that detect-secrets does not know, from their issuers' documentation.
_OWN: Final = (
    (r"\bsk-[A-Za-z0-9_\-]{20,250}", _random),  # OpenAI, Anthropic, DeepSeek
    (r"\bgithub_pat_[A-Za-z0-9]{22}_[A-Za-z0-9]{59}", _always),
    (r"\bglpat-[A-Za-z0-9_\-]{20,64}", _always),
    (r"\bhf_[A-Za-z]{34}\b", _always),
    (r"\bAIza[A-Za-z0-9_\-]{35}", _always),  # Google
    (r"\bpypi-AgE[A-Za-z0-9_\-]{50,300}", _always),
    (r"\bnpm_[A-Za-z0-9]{36}\b", _always),
)
# Of detect-secrets: module and class.
_KNOWN: Final = (
    ("aws", "AWSKeyDetector"),
    ("github_token", "GitHubTokenDetector"),
    ("slack", "SlackDetector"),
    ("jwt", "JwtTokenDetector"),
    ("stripe", "StripeDetector"),
    ("sendgrid", "SendGridDetector"),
    ("square_oauth", "SquareOAuthDetector"),
    ("mailchimp", "MailchimpDetector"),
    ("discord", "DiscordBotTokenDetector"),
    ("twilio", "TwilioKeyDetector"),
)
# What may grow into a key: how far back from the end of a text it may begin, and RE2 patterns of it. A key in one
# word and its beginnings are the first; the others go on over characters that no word has.
TAILS: Final[tuple[tuple[int, str], ...]] = (
    (
        320,
        r"(?:[A-Za-z0-9_\-.]+|(?i:aws).{0,100}|(?i:https:/{0,2}[hoks.]{0,6})|sq0csp-[0-9A-Za-z\\\-_]*"
        r"|-{0,5}BEGIN[A-Z0-9 ]{0,36})\z",
    ),
    (
        LONGEST,
        r"(?:eyJ[A-Za-z0-9\-_.+/=]*|(?i:xox[abposr]-[a-z0-9\-]*)|(?i:https://hooks\.[a-z0-9_/.\-]*)"
        r"|-{0,5}BEGIN[A-Z0-9 ]{1,18}PRIVATE KEY-*[A-Za-z0-9+/\\\n]*={0,3}\n*-*(?:E(?:N(?:D[A-Z0-9 ]{0,34}-*)?)?)?)\z",
    ),
)


@cache
def formats() -> tuple[Format, ...]:
    """Every format. The library is read when a rule first asks for it: it brings a web client that nobody uses."""
    found = [Format(pattern, proves) for pattern, proves in _OWN]
    for module, name in _KNOWN:
        plugin = getattr(importlib.import_module(f"detect_secrets.plugins.{module}"), name)()
        found += [Format(_re2(pattern), _proof(plugin)) for pattern in plugin.denylist]
    return (*found, _private_key())


def _re2(pattern: re.Pattern[str]) -> str:
    return f"(?i:{pattern.pattern})" if pattern.flags & re.IGNORECASE else pattern.pattern


def _proof(plugin: Any) -> Callable[[str], bool]:
    return lambda match: any(True for _ in plugin.analyze_string(match))


def _private_key() -> Format:
    """The library's pattern of a private key, up to the end of its last line."""
    plugin = importlib.import_module("detect_secrets.plugins.private_key").PrivateKeyDetector
    return Format(rf"-{{0,5}}{plugin.begin_key}{plugin.secret_key}\n*(?:-+END[A-Z0-9 ]{{0,34}}-*)?", _always)
