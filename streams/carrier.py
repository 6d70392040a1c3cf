"""Admission's carrier in Flink: one keyed operator. It looks up, lets `admission` decide, stores and emits."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Mapping
from typing import Any, Final

from pyflink.common import Row, Time, Types
from pyflink.datastream import KeyedProcessFunction, OutputTag, RuntimeContext
from pyflink.datastream.state import MapStateDescriptor, StateTtlConfig, ValueStateDescriptor

from schemas import topics
from schemas.registry import codec
from schemas.wire import HEADER, Codec, WireError
from streams import admission
from streams.emission import EXACTLY_ONCE, Emit, may_gather
from streams.state import Tenant

BYTES: Final = Types.PRIMITIVE_ARRAY(Types.BYTE())
OUT: Final = Types.ROW([Types.STRING(), BYTES, BYTES])
LEDGER_ROWS: Final = OutputTag("exactly-once", OUT)
BATCH_ROWS: Final = OutputTag("batch", OUT)
# A finished request is recognised for as long as the journal is kept, so that a replay cannot run it again.
REMEMBERED_DAYS: Final = 8
CELLS: Final = ("policy", "ledger", "agenda")
TABLES: Final = ("requests", "cached", "deferred", "pages")


def tenant_of(value: bytes) -> str:
    """The tenant of a journal record: its first field, read without decoding the rest; empty if unreadable."""
    length, shift, at = 0, 0, HEADER.size
    while at < len(value):
        byte = value[at]
        length |= (byte & 0x7F) << shift
        shift, at = shift + 7, at + 1
        if not byte & 0x80:
            return bytes(value[at : at + (length >> 1)]).decode("utf-8", "replace")
    return ""


def _java(state: Any) -> Any:
    # PyFlink converts a byte array in state element by element; the Java state takes and gives bytes as they are.
    return state._state


class FlinkCell:
    """A ValueState of bytes."""

    def __init__(self, state: Any) -> None:
        self._state = _java(state)

    def get(self) -> bytes | None:
        """The bytes, or None."""
        value = self._state.value()
        return None if value is None else bytes(value)

    def put(self, value: bytes) -> None:
        """Replace them."""
        self._state.update(value)


class FlinkTable:
    """A MapState of bytes by string."""

    def __init__(self, state: Any) -> None:
        self._state = _java(state)

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        value = self._state.get(key)
        return None if value is None else bytes(value)

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""
        self._state.put(key, value)

    def remove(self, key: str) -> None:
        """Forget the key."""
        self._state.remove(key)


class FlinkStores:
    """The operator's states; Flink points them at the tenant of the current record."""

    def __init__(self, context: RuntimeContext) -> None:
        for name in CELLS:
            setattr(self, name, FlinkCell(context.get_state(ValueStateDescriptor(name, BYTES))))
        for name in TABLES:
            descriptor = MapStateDescriptor(name, Types.STRING(), BYTES)
            if name in ("requests", "cached"):
                descriptor.enable_time_to_live(_ttl())
            setattr(self, name, FlinkTable(context.get_map_state(descriptor)))


def _ttl() -> StateTtlConfig:
    # Background clean-up starts a Java gateway from the embedded interpreter and fails; compaction does it instead.
    builder = StateTtlConfig.new_builder(Time.days(REMEMBERED_DAYS))
    return builder.disable_cleanup_in_background().cleanup_in_rocksdb_compact_filter(1000, 1).build()


class Admission(KeyedProcessFunction):
    """Carries out `admission.step` for each record and `admission.advance` for each timer."""

    def __init__(self, ids: Mapping[str, int], registry_url: str) -> None:
        self._ids = dict(ids)
        self._registry_url = registry_url

    def open(self, runtime_context: RuntimeContext) -> None:
        """Called by Flink before the first record, also after each restore: nothing remembered outlives that."""
        # What is kept at hand is many small objects without cycles; looking through them often is wasted.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        self._codec: Codec = codec(self._registry_url, self._ids)
        self._stores: Any = FlinkStores(runtime_context)
        self._tenants: dict[str, Tenant] = {}

    def process_element(self, value: bytes, ctx: Any) -> Iterator[Any]:
        """One journal record."""
        try:
            kind, record = self._codec.decode(bytes(value))
        except WireError as error:
            yield self._out(_dead_letter(bytes(value), error))
            return
        if kind == "Tick":
            return
        tenant = self._tenant(record["tenant"])
        emits = admission.step(tenant, kind, record, ctx.timestamp())
        self._set_timers(tenant, ctx)
        for emit in emits:
            yield self._out(emit)

    def on_timer(self, timestamp: int, ctx: Any) -> Iterator[Any]:
        """A moment of the tenant's agenda has passed in every partition."""
        tenant = self._tenant(ctx.get_current_key())
        emits = admission.advance(tenant, timestamp)
        self._set_timers(tenant, ctx)
        for emit in emits:
            yield self._out(emit)

    def _tenant(self, name: str) -> Tenant:
        tenant = self._tenants.get(name)
        if tenant is None:
            tenant = self._tenants[name] = Tenant(name, self._stores)
        return tenant

    def _set_timers(self, tenant: Tenant, ctx: Any) -> None:
        for moment in tenant.flush():
            ctx.timer_service().register_event_time_timer(moment)

    def _out(self, emit: Emit) -> Any:
        row = Row(emit.topic, emit.key.encode(), self._codec.encode(emit.schema, emit.record))
        if emit.topic in EXACTLY_ONCE:
            return LEDGER_ROWS, row
        return (BATCH_ROWS, row) if may_gather(emit.topic) else row


def _dead_letter(value: bytes, error: WireError) -> Emit:
    record = {
        "tenant": "",
        "source_topic": topics.JOURNAL,
        "partition": -1,
        "offset": -1,
        "reason": error.reason,
        "schema_id": error.schema_id,
        "key": None,
        "value": value,
        "at": time.time_ns() // 1_000_000,
    }
    return Emit(topics.DEAD_LETTERS, "", "DeadLetter", record)
