"""The configuration: what an operator writes as YAML, and the documents made from it.

Pure: takes mappings, returns structs. Reading files and publishing is ingest/apply.py.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from schemas.limits import AT_CREATE, Limit
from schemas.model_config import Canary as Canary
from schemas.model_config import Mirror as Mirror
from schemas.model_config import Model as Model
from schemas.model_config import Price as Price
from schemas.model_config import Share as Share
from schemas.webhooks import Webhook

Action = Literal["block", "mask", "flag"]
Stage = Literal["request", "response"]
Role = Literal["client", "admin", "tenant_admin", "analyst"]
Store = Literal["full", "masked", "none"]
Answers = Literal["none", "topic"]
EngineKind = Literal["llama", "openai", "transformers", "static", "echo"]
Protection = Literal["full", "strict", "none"]
EnginePriority = Literal["", "vllm", "sglang"]

DEFAULT_MESSAGE: Final = "This content is not allowed."


class ConfigError(ValueError):
    """A configuration that cannot be. `where` is a path such as tenants.acme.limits[0]."""

    def __init__(self, where: str, what: str) -> None:
        super().__init__(f"{where}: {what}")
        self.where = where
        self.what = what


class Key(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An API key. `key` is written by hand or given as `sha256:<hex>`; only the hash is ever published."""

    name: str
    key: str
    roles: tuple[Role, ...] = ("client",)


class KafkaUser(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A user of Kafka called `<tenant>.<name>`. Only the name is ever published, the password, written here or in an
    environment variable of `make apply`, never."""

    name: str
    password: str = ""
    password_env: str = ""


class Guard(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A pool whose model judges each prompt before it runs: `safe`, or anything else. No verdict in time refuses it."""

    pool: str
    timeout_ms: int = 5_000
    message: str = DEFAULT_MESSAGE


class Cache(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long answers may be given again, and how many of them are kept, the oldest going first. 0 s keeps none."""

    ttl_s: int = 3_600
    max_answers: int = 1_000_000
    max_bytes: int = 1 << 30


class Tenant(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A tenant as written. A prepaid one spends what was credited; its batches use s3:// URIs below `batch_uris`.

    With `answers: topic` what its producers sent to Kafka is answered on `responses.<tenant>`; `kafka_users` may write
    to its intake and read its answers.
    """

    keys: tuple[Key, ...] = ()
    limits: tuple[Limit, ...] = ()
    moderation: str = ""
    guard: Guard | None = None
    prepaid: bool = False
    cache: Cache = Cache()
    store: Store = "full"
    batch_uris: tuple[str, ...] = ()
    answers: Answers = "none"
    kafka_users: tuple[KafkaUser, ...] = ()
    webhooks: tuple[Webhook, ...] = ()


class Pool(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Workers that serve one model with one engine. Delays in ms.

    `protection` of interactive callers: `full` (what workers/lanes.py says); `strict`, they go first and that is all;
    `none`, one queue for all lanes, for an engine that does it by itself. `priority` sends each request's lane to an
    engine that orders by it; `preempt` lets running batch requests of an openai pool be broken off and begun anew.
    """

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
    protection: Protection = "full"
    priority: EnginePriority = ""
    preempt: bool = False


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
    """JSON of a Config record. `keys` is by SHA-256 of the key, hex; `rule_sets` by content hash.

    `settings` are the tenants without their keys, `moderation` naming a rule set by its content hash: with them the
    document says all that a policy needs.
    """

    version: str
    keys: dict[str, Principal]
    tenants: tuple[str, ...]
    pools: dict[str, Pool]
    models: dict[str, Model]
    aliases: dict[str, str]
    rule_sets: dict[str, tuple[Rule, ...]]
    settings: dict[str, Tenant] = {}


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
    guard: Guard | None = None
    prepaid: bool = False
    cache: Cache = Cache()


def hash_key(key: str) -> str:
    """SHA-256 of an API key, hex. Keys are long and random, so a plain hash suffices."""
    return key.removeprefix("sha256:") if key.startswith("sha256:") else hashlib.sha256(key.encode()).hexdigest()


def rules_hash(rules: tuple[Rule, ...]) -> str:
    """Content hash of a rule set; empty for no rules."""
    return hashlib.sha256(msgspec.json.encode(rules)).hexdigest()[:16] if rules else ""


def version(c: Configuration) -> str:
    """Hash of everything in it; twelve hex digits."""
    return hashlib.sha256(msgspec.json.encode(c, order="deterministic")).hexdigest()[:12]


def document(c: Configuration) -> ConfigDocument:
    """What processes that serve all tenants need."""
    keys = {hash_key(k.key): Principal(t, k.name, k.roles) for t, tenant in c.tenants.items() for k in tenant.keys}
    hashes = {name: rules_hash(rules) for name, rules in c.rule_sets.items()}
    sets = {hashes[name]: rules for name, rules in c.rule_sets.items() if rules}
    settings = {
        name: replace(
            tenant,
            keys=(),
            moderation=hashes.get(tenant.moderation, ""),
            kafka_users=tuple(KafkaUser(user.name) for user in tenant.kafka_users),
        )
        for name, tenant in c.tenants.items()
    }
    return ConfigDocument(version(c), keys, tuple(sorted(c.tenants)), c.pools, c.models, c.aliases, sets, settings)


def closed(d: ConfigDocument, tenant: str) -> PolicyDocument:
    """The policy of a tenant that is gone: it may send nothing any more."""
    nothing = (Limit(on="requests", per="minute", max=0),)
    return PolicyDocument(d.version, tenant, nothing, "none", (), "", d.models, d.aliases, d.pools)


def policy_of(d: ConfigDocument, tenant: str) -> PolicyDocument:
    """What admission needs for one tenant. KeyError if the document does not say all of it."""
    t = d.settings[tenant]
    rules, everywhere = d.rule_sets.get(t.moderation, ()), (d.models, d.aliases, d.pools)
    own = (t.guard, t.prepaid, t.cache)
    limits = tuple(limit for limit in t.limits if limit.on not in AT_CREATE)
    return PolicyDocument(d.version, tenant, limits, t.store, rules, t.moderation, *everywhere, *own)


def without_share(d: ConfigDocument, model: str, why: str) -> ConfigDocument:
    """The document with the canary share of a split model at weight 0, under a version of its own."""
    m = d.models[model]
    assert m.canary is not None, "only a model with a canary is rolled back"
    split = tuple(replace(s, weight=0) if s.model == m.canary.model else s for s in m.split)
    changed = {**d.models, model: replace(m, split=split, canary=replace(m.canary, rolled_back=why))}
    digest = hashlib.sha256(f"{d.version}\n{model}\n{why}".encode()).hexdigest()[:12]
    return replace(d, version=digest, models=changed)


def encode(doc: ConfigDocument | PolicyDocument) -> str:
    """Canonical JSON of a document."""
    return msgspec.json.encode(doc, order="deterministic").decode()


def decode_config(text: str) -> ConfigDocument:
    """The document of a Config record."""
    return msgspec.json.decode(text, type=ConfigDocument)


def decode_policy(text: str) -> PolicyDocument:
    """The document of a Policy record."""
    return msgspec.json.decode(text, type=PolicyDocument)
