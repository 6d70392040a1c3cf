"""Whether a configuration can be: types, names that point somewhere, amounts that mean something. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

from schemas import uris, webhooks
from schemas.config import Canary, ConfigError, Configuration, KafkaUser, Model, Price, Tenant, hash_key
from schemas.limits import WITHOUT_WINDOW

NAME: Final = re.compile("[A-Za-z0-9_-]{1,64}")
# Clients prepare other characters each in their own way, and would not be let in.
PASSWORD: Final = re.compile("[!-~]{8,256}")
PASSWORD_IS: Final = "a password has 8 to 256 printable ASCII characters, no blanks"


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
        if pool.engine != "openai" and (pool.priority or pool.preempt):
            raise ConfigError(f"pools.{name}", "priority and preempt are for openai pools")
        if pool.priority and pool.preempt:
            raise ConfigError(f"pools.{name}.preempt", "an engine that has the priorities preempts by itself")
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
            if not rule.id or not rule.stages or rule.id in {r.id for r in rules[:i]}:
                what = "a rule needs an id that no other of its set has, and a stage"
                raise ConfigError(f"rule_sets.{set_name}[{i}]", what)
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
    _check_price(f"models.{name}.price", model.price)
    if model.canary is not None:
        _check_canary(f"models.{name}.canary", model, model.canary)
    if model.shadow is not None:
        where = f"models.{name}.shadow"
        if model.split or not (c.models.get(model.shadow.model) or Model()).route:
            raise ConfigError(where, "a model with a route shadows a model with a route")
        if not 0 <= model.shadow.percent <= 100:
            raise ConfigError(f"{where}.percent", "must be between 0 and 100")


def _check_price(where: str, price: Price) -> None:
    for field in price.__struct_fields__:
        value = getattr(price, field)
        if isinstance(value, int) and value < 0:
            raise ConfigError(f"{where}.{field}", "must not be negative")


def _check_canary(where: str, model: Model, canary: Canary) -> None:
    if canary.model not in {s.model for s in model.split} or len(model.split) < 2:
        raise ConfigError(f"{where}.model", "a canary is one of several shares of the model's split")
    if not any(s.weight for s in model.split if s.model != canary.model):
        raise ConfigError(f"{where}.model", "without the canary the weights would add up to zero")
    if canary.rolled_back:
        raise ConfigError(f"{where}.rolled_back", "is written by the controller")
    if not 0 <= canary.max_error_percent <= 100 or not 1 <= canary.percentile <= 100:
        raise ConfigError(where, "percentages lie between 0 and 100")
    if canary.min_requests < 1 or canary.window_ms < 1_000 or canary.max_ms < 0:
        raise ConfigError(where, "min_requests is at least 1, window_ms at least 1000, max_ms not negative")


def _check_tenant(c: Configuration, name: str, tenant: Tenant, seen: dict[str, str]) -> None:
    if not name or not all(ch.isalnum() or ch in "-_" for ch in name):
        raise ConfigError(f"tenants.{name}", "a tenant's name has letters, digits, - and _ only: it names topics")
    if tenant.moderation and tenant.moderation not in c.rule_sets:
        raise ConfigError(f"tenants.{name}.moderation", f"there is no rule set {tenant.moderation!r}")
    if tenant.guard is not None and (tenant.guard.pool not in c.pools or tenant.guard.timeout_ms < 1):
        raise ConfigError(f"tenants.{name}.guard", "needs a pool that exists, and a time limit of at least 1 ms")
    if min(tenant.cache.ttl_s, tenant.cache.max_answers, tenant.cache.max_bytes) < 0:
        raise ConfigError(f"tenants.{name}.cache", "must not be negative")
    for i, uri in enumerate(tenant.batch_uris):
        if uris.parse(uri) is None:
            raise ConfigError(f"tenants.{name}.batch_uris[{i}]", "must be s3://bucket or s3://bucket/prefix/")
    for i, user in enumerate(tenant.kafka_users):
        _check_user(f"tenants.{name}.kafka_users[{i}]", user, {u.name for u in tenant.kafka_users[:i]})
    _check_webhooks(f"tenants.{name}.webhooks", tenant)
    for i, limit in enumerate(tenant.limits):
        where = f"tenants.{name}.limits[{i}]"
        if limit.max < 0:
            raise ConfigError(f"{where}.max", "must not be negative")
        if (limit.per is None) != (limit.on in WITHOUT_WINDOW):
            what = ", ".join(sorted(WITHOUT_WINDOW))
            raise ConfigError(f"{where}.per", f"every limit needs a window, but {what} have none")
    for i, key in enumerate(tenant.keys):
        digest = hash_key(key.key)
        if digest in seen:
            raise ConfigError(f"tenants.{name}.keys[{i}]", f"the same key is already used by {seen[digest]}")
        seen[digest] = f"{name}/{key.name}"


def _check_user(where: str, user: KafkaUser, before: set[str]) -> None:
    if not NAME.fullmatch(user.name):
        raise ConfigError(f"{where}.name", "a user's name has up to 64 letters, digits, - and _ only")
    if user.name in before:
        raise ConfigError(f"{where}.name", "this tenant has another user of that name")
    if bool(user.password) == bool(user.password_env):
        raise ConfigError(where, "give either a password or password_env, the environment variable that holds it")
    if user.password and not PASSWORD.fullmatch(user.password):
        raise ConfigError(f"{where}.password", PASSWORD_IS)


def _check_webhooks(where: str, tenant: Tenant) -> None:
    if len(tenant.webhooks) > webhooks.MAX_ENDPOINTS:
        raise ConfigError(where, f"there may be at most {webhooks.MAX_ENDPOINTS}")
    for i, webhook in enumerate(tenant.webhooks):
        if fault := webhooks.fault(webhook):
            raise ConfigError(f"{where}[{i}].{fault[0]}", fault[1])
        if webhook.name in {w.name for w in tenant.webhooks[:i]}:
            raise ConfigError(f"{where}[{i}].name", f"there is one called {webhook.name!r} already")
