"""A double of Flink's runtime around the real operator of streams/carrier.py: keyed state, timers, watermark, sinks.

It follows what Flink documents: state and timers belong to the key of the current record; a timer fires once, in the
order of time, when the watermark has reached it; the watermark is what every partition has passed; a checkpoint
holds state and timers; rows for the exactly-once sink become final with the checkpoint after them. `open` is called
on a new operator after every restore.
"""

from __future__ import annotations

import gc
import heapq
from collections import defaultdict
from collections.abc import Iterable
from typing import Any, NamedTuple

from schemas import catalogue, topics
from schemas.wire import Codec
from streams import carrier
from streams.memory import OnWrite, Undo
from tests.simulation.journal import partition_of

NO_REGISTRY = "http://127.0.0.1:1"
VALUE = ""


class Backend:
    """Keyed state: values by (name of the state, key), for the key that is current."""

    def __init__(self) -> None:
        self.undo = Undo()
        self.key = ""
        self._states: defaultdict[tuple[str, str], dict[str, bytes]] = defaultdict(dict)

    def of(self, name: str) -> dict[str, bytes]:
        """What a state holds for the current key."""
        return self._states[name, self.key]

    def put(self, name: str, key: str, value: bytes) -> None:
        """Set one value."""
        values = self.of(name)
        self.undo.note(values, key)
        values[key] = value

    def remove(self, name: str, key: str) -> None:
        """Remove one value."""
        values = self.of(name)
        self.undo.note(values, key)
        values.pop(key, None)


class JavaValue:
    """The Java ValueState under PyFlink's."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def value(self) -> bytes | None:
        """The bytes, or None."""
        return self._backend.of(self._name).get(VALUE)

    def update(self, value: bytes) -> None:
        """Replace them."""
        self._backend.put(self._name, VALUE, value)


class JavaMap:
    """The Java MapState under PyFlink's."""

    def __init__(self, backend: Backend, name: str) -> None:
        self._backend, self._name = backend, name

    def get(self, key: str) -> bytes | None:
        """The bytes, or None."""
        return self._backend.of(self._name).get(key)

    def put(self, key: str, value: bytes) -> None:
        """Replace them."""
        self._backend.put(self._name, key, value)

    def remove(self, key: str) -> None:
        """Forget the key."""
        self._backend.remove(self._name, key)


class Wrapped:
    """PyFlink's state, which carries the Java one."""

    def __init__(self, state: Any) -> None:
        self._state = state


class Context:
    """RuntimeContext, KeyedProcessFunction.Context, OnTimerContext and TimerService in one."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self.time_ms = 0
        self.timers: dict[tuple[int, str], None] = {}
        self.heap: list[tuple[int, str]] = []

    def get_state(self, descriptor: Any) -> Wrapped:
        """A ValueState."""
        return Wrapped(JavaValue(self._backend, descriptor.name))

    def get_map_state(self, descriptor: Any) -> Wrapped:
        """A MapState."""
        return Wrapped(JavaMap(self._backend, descriptor.name))

    def timestamp(self) -> int:
        """The broker's time of the current record."""
        return self.time_ms

    def get_current_key(self) -> str:
        """The key of the current record or timer."""
        return self._backend.key

    def timer_service(self) -> Context:
        """Registers timers."""
        return self

    def register_event_time_timer(self, at_ms: int) -> None:
        """One timer a key and moment, however often it is registered."""
        timer = (at_ms, self._backend.key)
        if timer not in self.timers:
            self.timers[timer] = None
            heapq.heappush(self.heap, timer)

    def due(self, watermark_ms: int) -> Iterable[tuple[int, str]]:
        """Timers that the watermark has reached, in order; firing one may register another."""
        while self.heap and self.heap[0][0] <= watermark_ms:
            timer = heapq.heappop(self.heap)
            del self.timers[timer]
            yield timer


class Saved(NamedTuple):
    """A checkpoint."""

    undo: int
    timers: tuple[tuple[int, str], ...]
    rows: dict[str, int]


class FlinkEngine:
    """Runs the operator over the doubles; the same face as the memory engine."""

    def __init__(self, codec: Codec, partitions: int, on_write: OnWrite) -> None:
        self.topics: defaultdict[str, list[tuple[str, bytes]]] = defaultdict(list)
        self._rows: defaultdict[str, int] = defaultdict(int)
        self._codec = codec
        self._partitions = partitions
        self._on_write = on_write
        self._backend = Backend()
        self._start(())

    def _start(self, timers: Iterable[tuple[int, str]]) -> None:
        self._clocks: dict[int, int] = {}
        self._context = Context(self._backend)
        self._context.heap = sorted(timers)
        self._context.timers = dict.fromkeys(timers)
        self._operator = new_operator()
        thresholds = gc.get_threshold()
        self._operator.open(self._context)  # type: ignore[arg-type]
        gc.unfreeze()
        gc.set_threshold(*thresholds)

    def append(self, value: bytes, now_ms: int) -> None:
        """One journal record reaches the operator, then the watermark that follows it."""
        key = carrier.tenant_of(value)
        self._backend.key, self._context.time_ms = key, now_ms
        self._emit(self._operator.process_element(value, self._context))
        partition = partition_of(key) if key else self._codec.decode(value)[1]["partition"]
        self._clocks[partition] = max(now_ms, self._clocks.get(partition, 0))
        if len(self._clocks) == self._partitions:
            # A source's watermark lies a millisecond below the newest timestamp.
            for at, timer_key in self._context.due(min(self._clocks.values()) - 1):
                self._backend.key, self._context.time_ms = timer_key, at
                self._emit(self._operator.on_timer(at, self._context))

    def _emit(self, outputs: Iterable[Any]) -> None:
        for output in outputs:
            tag, (topic, key, value) = output if isinstance(output, tuple) else (None, output)
            self.topics[topic].append((key.decode(), value))
            # Each sink gathers as long as the readers of its topics may wait.
            batch = topic == topics.BATCH_RESULTS or topic.endswith(".batch")
            assert (tag is carrier.BATCH_ROWS) == batch, topic
            if tag is not None and not batch:
                assert tag is carrier.LEDGER_ROWS
                self._rows[topic] = len(self.topics[topic])
            self._on_write(self._backend.key, topic, key.decode(), value)

    def checkpoint(self) -> Saved:
        """State, timers and the transaction's rows."""
        return Saved(self._backend.undo.mark(), tuple(self._context.timers), dict(self._rows))

    def restore(self, saved: Saved) -> None:
        """A new operator over the state of the checkpoint; rows written since were never committed."""
        self._backend.undo.back(saved.undo)
        for topic in self._rows:
            self._rows[topic] = saved.rows.get(topic, 0)
            del self.topics[topic][self._rows[topic] :]
        self._start(saved.timers)

    def forget(self, saved: Saved) -> None:
        """What is older is not needed again."""
        self._backend.undo.forget(saved.undo)


def new_operator() -> carrier.Admission:
    """The operator as the job makes it."""
    return carrier.Admission({name: i for i, name in enumerate(catalogue.names(), start=1)}, NO_REGISTRY)
