"""The live view in Redis: windows, progress, and how far `usage` has been counted into them.

The hash `live` names the generation of the view and holds the next offset of every partition. That of `usage` changes
in the same script as the windows do, so a record read again is never counted again. When Redis loses its
memory the hash is gone with it, and a new generation is counted from the beginning of the topics.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, Final, TypeVar, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from schemas import topics
from schemas.records import BatchResult, Usage
from streams import progress
from streams.patience import keep_trying_async

log: Final = logging.getLogger("live")
T = TypeVar("T")

MARK: Final = "live"
GENERATION: Final = "generation"
# Lines in one script call: Redis serves nobody else while a script runs.
LINES_A_CALL: Final = 1000

# KEYS: mark, windows...  ARGV: generation, partition's field, expected offset, next offset, then per window: its
# expiry (ms) and four sums. Returns the offset that is in force: the next one, or what another has made of it; -1
# when the view is of another generation.
COUNT: Final = """
if redis.call('HGET', KEYS[1], 'generation') ~= ARGV[1] then return -1 end
local at = tonumber(redis.call('HGET', KEYS[1], ARGV[2]) or '0')
if at ~= tonumber(ARGV[3]) then return at end
local a = 5
for i = 2, #KEYS do
  redis.call('HINCRBY', KEYS[i], 'requests', ARGV[a + 1])
  redis.call('HINCRBY', KEYS[i], 'input_tokens', ARGV[a + 2])
  redis.call('HINCRBY', KEYS[i], 'output_tokens', ARGV[a + 3])
  redis.call('HINCRBY', KEYS[i], 'cost_micros', ARGV[a + 4])
  redis.call('PEXPIREAT', KEYS[i], ARGV[a])
  a = a + 5
end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[4])
return tonumber(ARGV[4])
"""

# KEYS: bitmap, counts.  ARGV: time to live (ms), then per line: number, 'completed' or 'failed', two token counts.
MARK_LINES: Final = """
for a = 2, #ARGV, 4 do
  if redis.call('SETBIT', KEYS[1], ARGV[a], 1) == 0 then
    redis.call('HINCRBY', KEYS[2], ARGV[a + 1], 1)
    redis.call('HINCRBY', KEYS[2], 'input_tokens', ARGV[a + 2])
    redis.call('HINCRBY', KEYS[2], 'output_tokens', ARGV[a + 3])
  end
end
redis.call('PEXPIRE', KEYS[1], ARGV[1])
redis.call('PEXPIRE', KEYS[2], ARGV[1])
return 1
"""


class Lost(Exception):
    """The view in Redis is not the one that was being counted: it has to be counted anew."""


class View:
    """Writes the live view. Every method waits for Redis as long as it takes."""

    def __init__(self, url: str) -> None:
        self._redis: Any = Redis.from_url(url, socket_timeout=5, socket_connect_timeout=2)
        self._count = self._redis.register_script(COUNT)
        self._mark_lines = self._redis.register_script(MARK_LINES)
        self._generation = ""
        self._next: dict[int, int] = {}

    async def _do(self, call: Callable[[], Awaitable[T]]) -> T:
        return await keep_trying_async("redis", call, (RedisError, OSError))

    async def open(self) -> str:
        """The generation of the view; a new one, with all windows cleared, where there was none."""
        found = await self._do(lambda: self._redis.hget(MARK, GENERATION))
        if found is None:
            log.info("Redis holds no live view: counting the topics from their beginning")
            await self._do(self._clear)
            fresh = str(time.time_ns() // 1_000_000)
            await self._do(lambda: self._redis.hsetnx(MARK, GENERATION, fresh))
            found = await self._do(lambda: self._redis.hget(MARK, GENERATION))
        self._generation = cast(bytes, found).decode()
        self._next = {}
        return self._generation

    async def _clear(self) -> None:
        await self._redis.delete(MARK)
        async for key in self._redis.scan_iter("usage:*", count=1000):
            await self._redis.unlink(key)

    async def is_ours(self) -> bool:
        """Whether Redis still holds the generation that was opened."""
        found = await self._do(lambda: self._redis.hget(MARK, GENERATION))
        return found is not None and cast(bytes, found).decode() == self._generation

    async def count(self, partition: int, records: Sequence[tuple[int, Usage | None]], now_ms: int) -> None:
        """Count records (offset, and the record unless it was unreadable) of one partition of `usage`, in order.

        Raises Lost if the view is not of our generation.
        """
        field = progress.position_field(topics.USAGE, partition)
        expected = self._next.get(partition, 0)
        while True:
            new = [(offset, record) for offset, record in records if offset >= expected]
            if not new:
                self._next[partition] = expected
                return
            after = new[-1][0] + 1
            windows = progress.fold_usage((r for _, r in new if r is not None), now_ms)
            at = await self._apply(field, expected, after, windows)
            if at < expected:
                # Another generation (-1), or Redis came back with an older memory: neither can be continued.
                await self.forget()
                raise Lost
            if at == after:
                self._next[partition] = after
                return
            expected = at

    async def _apply(self, field: str, expected: int, after: int, windows: Mapping[str, progress.Window]) -> int:
        arguments: list[str | int] = [self._generation, field, expected, after]
        for window in windows.values():
            arguments += [window.until_ms, *window.fields().values()]
        return int(await self._do(lambda: self._count(keys=[MARK, *windows], args=arguments)))

    async def mark(self, partition: int, after: int, records: Sequence[BatchResult]) -> None:
        """Set the bits of finished lines; each line counts once, however often it is seen.

        `after` is the offset that follows the last record of this partition of `batch_results`.
        """
        for batch_id, lines in progress.fold_results(records).items():
            for first in range(0, len(lines), LINES_A_CALL):
                await self._mark(batch_id, lines[first : first + LINES_A_CALL])
        field = progress.position_field(topics.BATCH_RESULTS, partition)
        await self._do(lambda: self._redis.hset(MARK, field, after))

    async def _mark(self, batch_id: str, lines: Sequence[progress.Line]) -> None:
        keys = [progress.progress_key(batch_id), progress.counts_key(batch_id)]
        arguments: list[str | int] = [progress.PROGRESS_KEPT_MS]
        for line in lines:
            outcome = "completed" if line.completed else "failed"
            arguments += [line.line, outcome, line.input_tokens, line.output_tokens]
        await self._do(lambda: self._mark_lines(keys=keys, args=arguments))

    async def positions(self) -> dict[str, int]:
        """How far each partition is in the view: the next offset, by `progress.position_field`."""
        found = cast(dict[bytes, bytes], await self._do(lambda: self._redis.hgetall(MARK)))
        return {field.decode(): int(value) for field, value in found.items() if field.decode() != GENERATION}

    async def forget(self) -> None:
        """Give up this generation: the next `open` begins another."""
        await self._do(lambda: self._redis.delete(MARK))
