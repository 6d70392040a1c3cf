"""The configuration: what an operator writes as YAML, and the documents made from it.

Pure: takes mappings, returns structs. Reading files and publishing is ingest/apply.py.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Literal

import msgspec

On = Literal["requests", "input_tokens", "output_tokens", "total_tokens", "cost_micros", "concurrency"]
Per = Literal["second", "minute", "hour", "day", "month"]
Action = Literal["block", "mask", "flag"]
Stage = Literal["request", "response"]
Role = Literal["client", "admin", "tenant_admin", "analyst"]
Store = Literal["full", "masked", "none"]
EngineKind = Literal["llama", "openai", "transformers", "echo"]

DEFAULT_MESSAGE: Final = "This content is not allowed."


class ConfigError(ValueError):
    """A configuration that cannot be. `where` is a path such as tenants.acme.limits[0]."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


class Limit(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """At most `max` of `on` per window; for concurrency there is no window. `key` and `model` narrow it."""

    on: On
    max: int
    per: Per | None = None
    model: str = ""
    key: str = ""

    @property
    def id(self) -> str:
        """Stable across versions of a policy, so that counters survive an unrelated change."""
        return f"{self.on}/{self.per or 'now'}/{self.model}/{self.key}"


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key. `key` is written by hand or given as `sha256:<hex>`; only the hash is ever published."""

    name: str
    key: str
    roles: tuple[Role, ...] = ("client",)


class Tenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant as written in tenants.yaml."""

    keys: tuple[Key, ...] = ()
    limits: tuple[Limit, ...] = ()
    moderation: str = ""
    store: Store = "full"


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Workers that serve one model with one engine. Delays in ms."""

    engine: EngineKind
    concurrency: int = 8
    model: str = ""
    base_url: str = ""
    api_key_env: str = ""
    first_token_timeout_ms: int = 60_000
    timeout_ms: int = 600_000
    first_token_ms: int = 0
    token_ms: int = 0
    precision: str = ""


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Micro-units per million tokens."""

    version: str = ""
    input: int = 0
    output: int = 0


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a traffic split."""

    model: str
    weight: int


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What callers ask for: a route of pools in order, or a split over other models. Limits in tokens; 0 is none."""

    route: tuple[str, ...] = ()
    split: tuple[Share, ...] = ()
    sticky: Literal["tenant", "user", "key", "request"] = "tenant"
    max_input_tokens: int = 0
    max_output_tokens: int = 0
    price: Price = Price()
    embeds: bool = False


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A moderation rule: `match` a literal phrase, `regex` an RE2 pattern, or `detect` a known kind of data."""

    id: str
    match: str = ""
    regex: str = ""
    detect: str = ""
    stages: tuple[Stage, ...] = ("request", "response")
    action: Action = "block"
    message: str = DEFAULT_MESSAGE


class Configuration(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The whole folder of YAML."""

    tenants: dict[str, Tenant] = {}
    pools: dict[str, Pool] = {}
    models: dict[str, Model] = {}
    aliases: dict[str, str] = {}
    rule_sets: dict[str, tuple[Rule, ...]] = {}


class Principal(msgspec.Struct, frozen=True):
    """Who holds a key."""

    tenant: str
    name: str
    roles: tuple[Role, ...]


class ConfigDocument(msgspec.Struct, frozen=True):
    """JSON of a Config record. `keys` is by SHA-256 of the key, hex; `rule_sets` by content hash."""

    version: str
    keys: dict[str, Principal]
    tenants: tuple[str, ...]
    pools: dict[str, Pool]
    models: dict[str, Model]
    aliases: dict[str, str]
    rule_sets: dict[str, tuple[Rule, ...]]


class PolicyDocument(msgspec.Struct, frozen=True):
    """JSON of a Policy record: all that admission needs for one tenant."""

    version: str
    tenant: str
    limits: tuple[Limit, ...]
    store: Store
    rules: tuple[Rule, ...]
    rules_hash: str
    models: dict[str, Model]
    aliases: dict[str, str]
    pools: dict[str, Pool]


def hash_key(key: str) -> str:
    """SHA-256 of an API key, hex. Keys are long and random, so a plain hash suffices."""
    return key.removeprefix("sha256:") if key.startswith("sha256:") else hashlib.sha256(key.encode()).hexdigest()


def rules_hash(rules: tuple[Rule, ...]) -> str:
    """Content hash of a rule set; empty for no rules."""
    return hashlib.sha256(msgspec.json.encode(rules)).hexdigest()[:16] if rules else ""


def parse(data: dict[str, Any]) -> Configuration:
    """The configuration in `data` (the merged YAML). Raises ConfigError with the place of the first fault."""
    try:
        configuration = msgspec.convert(data, Configuration)
    except msgspec.ValidationError as error:
        what, _, where = str(error).partition(" - at ")
        raise ConfigError(where.strip("`").removeprefix("$.") or "configuration", what) from None
    _check(configuration)
    return configuration


def _check(c: Configuration) -> None:
    for name, pool in c.pools.items():
        if pool.concurrency < 1:
            raise ConfigError(f"pools.{name}.concurrency", "must be at least 1")
        if pool.engine == "openai" and not pool.base_url:
            raise ConfigError(f"pools.{name}.base_url", "an openai pool needs the address of its server")
    for name, model in c.models.items():
        _check_model(c, name, model)
    for alias, model_name in c.aliases.items():
        if model_name not in c.models:
            raise ConfigError(f"aliases.{alias}", f"there is no model {model_name!r}")
    seen: dict[str, str] = {}
    for name, tenant in c.tenants.items():
        _check_tenant(c, name, tenant, seen)
    for set_name, rules in c.rule_sets.items():
        for i, rule in enumerate(rules):
            if sum(map(bool, (rule.match, rule.regex, rule.detect))) != 1:
                raise ConfigError(f"rule_sets.{set_name}[{i}]", "give exactly one of match, regex, detect")


def _check_model(c: Configuration, name: str, model: Model) -> None:
    if bool(model.route) == bool(model.split):
        raise ConfigError(f"models.{name}", "give either a route or a split")
    for pool in model.route:
        if pool not in c.pools:
            raise ConfigError(f"models.{name}.route", f"there is no pool {pool!r}")
    for share in model.split:
        if share.model not in c.models or c.models[share.model].split:
            raise ConfigError(f"models.{name}.split", f"{share.model!r} is not a model with a route")
        if share.weight < 0:
            raise ConfigError(f"models.{name}.split", "weights must not be negative")
    if model.split and sum(s.weight for s in model.split) == 0:
        raise ConfigError(f"models.{name}.split", "the weights add up to zero")


def _check_tenant(c: Configuration, name: str, tenant: Tenant, seen: dict[str, str]) -> None:
    if not name or not all(ch.isalnum() or ch in "-_" for ch in name):
        raise ConfigError(f"tenants.{name}", "a tenant's name has letters, digits, - and _ only: it names topics")
    if tenant.moderation and tenant.moderation not in c.rule_sets:
        raise ConfigError(f"tenants.{name}.moderation", f"there is no rule set {tenant.moderation!r}")
    for i, limit in enumerate(tenant.limits):
        where = f"tenants.{name}.limits[{i}]"
        if limit.max < 0:
            raise ConfigError(f"{where}.max", "must not be negative")
        if (limit.per is None) != (limit.on == "concurrency"):
            raise ConfigError(f"{where}.per", "every limit but concurrency needs a window, concurrency has none")
    for i, key in enumerate(tenant.keys):
        digest = hash_key(key.key)
        if digest in seen:
            raise ConfigError(f"tenants.{name}.keys[{i}]", f"the same key is already used by {seen[digest]}")
        seen[digest] = f"{name}/{key.name}"


def version(c: Configuration) -> str:
    """Hash of everything in it; twelve hex digits."""
    return hashlib.sha256(msgspec.json.encode(c, order="deterministic")).hexdigest()[:12]


def document(c: Configuration) -> ConfigDocument:
    """What processes that serve all tenants need."""
    keys = {hash_key(k.key): Principal(t, k.name, k.roles) for t, tenant in c.tenants.items() for k in tenant.keys}
    sets = {rules_hash(rules): rules for rules in c.rule_sets.values() if rules}
    return ConfigDocument(version(c), keys, tuple(sorted(c.tenants)), c.pools, c.models, c.aliases, sets)


def policy(c: Configuration, tenant: str) -> PolicyDocument:
    """What admission needs for one tenant."""
    t = c.tenants[tenant]
    rules = c.rule_sets.get(t.moderation, ())
    return PolicyDocument(version(c), tenant, t.limits, t.store, rules, rules_hash(rules), c.models, c.aliases, c.pools)


def encode(doc: ConfigDocument | PolicyDocument) -> str:
    """Canonical JSON of a document."""
    return msgspec.json.encode(doc, order="deterministic").decode()


def decode_config(text: str) -> ConfigDocument:
    """The document of a Config record."""
    return msgspec.json.decode(text, type=ConfigDocument)


def decode_policy(text: str) -> PolicyDocument:
    """The document of a Policy record."""
    return msgspec.json.decode(text, type=PolicyDocument)
