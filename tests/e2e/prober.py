"""Calls that are made again and again while something is broken, to see when they are answered again."""

from __future__ import annotations

import threading
import time
import uuid
from concurrent.futures import Future, ThreadPoolExecutor

import openai

from tests.e2e.stack import Stack

PERIOD_S = 0.5
# An answer takes hundredths of a second; this is far above what a busy machine adds.
SLOW_S = 2.0
STEADY = 4
GIVE_UP_S = 120


class Prober:
    """Makes a fresh call every half second, each in a thread of `threads`, from now until `end`."""

    def __init__(self, stack: Stack, threads: ThreadPoolExecutor) -> None:
        self._client = stack.client("probe", max_retries=0, timeout=60)
        self._threads = threads
        self._since = time.monotonic()
        self._sent: list[tuple[float, Future[float]]] = []
        self._stop = threading.Event()
        self._clock = threading.Thread(target=self._tick)
        self._clock.start()

    def _tick(self) -> None:
        while not self._stop.is_set():
            at = time.monotonic()
            self._sent.append((at, self._threads.submit(self._ask, at)))
            self._stop.wait(PERIOD_S)

    def _ask(self, at: float) -> float:
        """When a call was answered that is made now, and again until somebody takes it."""
        while True:
            text = f"are you there {uuid.uuid4().hex}"
            try:
                answer = self._client.chat.completions.create(
                    model="echo", messages=[{"role": "user", "content": text}]
                )
            except (openai.APIConnectionError, openai.InternalServerError):
                assert time.monotonic() - at < GIVE_UP_S, "no call is answered any more"
                self._stop.wait(0.1)
                continue
            assert answer.choices[0].message.content == text
            return time.monotonic()

    def steady(self) -> bool:
        """Whether the latest calls were all answered at once."""
        latest = self._sent[-STEADY:]
        return len(latest) == STEADY and all(f.done() and f.result() - at < SLOW_S for at, f in latest)

    def end(self) -> float:
        """Make no more calls; seconds from the beginning until the last answer that was slow, or to the first one."""
        self._stop.set()
        self._clock.join()
        answered = [(at, future.result(GIVE_UP_S)) for at, future in self._sent]
        slow = [end for at, end in answered if end - at >= SLOW_S]
        return max(slow, default=answered[0][1]) - self._since
