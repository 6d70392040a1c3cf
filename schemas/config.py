"""The configuration: what an operator writes as YAML, and the documents made from it.

Pure: takes mappings, returns structs. Reading files and publishing is ingest/apply.py.
"""

from __future__ import annotations

import hashlib
from typing import Final, Literal

import msgspec
from msgspec.structs import replace

from schemas.limits import AT_CREATE, Limit
from schemas.webhooks import Webhook

Action = Literal["block", "mask", "flag"]
Stage = Literal["request", "response"]
Role = Literal["client", "admin", "tenant_admin", "analyst"]
Store = Literal["full", "masked", "none"]
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
    """A tenant as written. A prepaid one spends what was credited; its batches use s3:// URIs below `batch_uris`."""

    keys: tuple[Key, ...] = ()
    limits: tuple[Limit, ...] = ()
    moderation: str = ""
    guard: Guard | None = None
    prepaid: bool = False
    cache: Cache = Cache()
    store: Store = "full"
    batch_uris: tuple[str, ...] = ()
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


class Price(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Micro-units per million tokens; percentages of that for batch lines, hits and followers.

    Prompt tokens from the engine's prefix cache cost `cached_input`, reasoning tokens `reasoning`; where these are not
    given, they cost what others do.
    """

    version: str = ""
    input: int = 0
    output: int = 0
    cached_input: int | None = None
    reasoning: int | None = None
    batch_percent: int = 100
    hit_percent: int = 0
    follower_percent: int = 0


class Share(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One side of a traffic split. `cohort` is what usage calls it; the model's name if not given."""

    model: str
    weight: int
    cohort: str = ""


class Canary(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """When a share of a split is taken back to weight 0 by itself: too many errors, or too slow.

    Judged over the last `window_ms`, once `min_requests` attempts ended in it. 0 for `max_ms` sets no bound on time.
    `rolled_back` is written by the controller: why, and when.
    """

    model: str
    max_error_percent: int = 5
    max_ms: int = 0
    percentile: int = 95
    min_requests: int = 20
    window_ms: int = 60_000
    rolled_back: str = ""


class Mirror(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A model that gets a copy of a share of the requests; what it answers goes nowhere but to the lake."""

    model: str
    percent: int = 100


class Model(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What callers ask for: a route of pools in order, or a split over other models. Limits in tokens; 0 is none."""

    route: tuple[str, ...] = ()
    split: tuple[Share, ...] = ()
    sticky: Literal["tenant", "user", "key", "request"] = "tenant"
    canary: Canary | None = None
    shadow: Mirror | None = None
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
    settings = {n: replace(t, keys=(), moderation=hashes.get(t.moderation, "")) for n, t in c.tenants.items()}
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
