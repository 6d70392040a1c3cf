"""`make demo`: a real batch beside real-time calls and a producer, from the SDK to Parquet. `python -m examples.demo`.

Exit status 0 only if all of it happened: every line accounted for, one usage row each, sums that agree.
"""

from __future__ import annotations

import os
import sys
import threading
import time
import uuid
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from functools import partial
from typing import Final

import openai
from openai import OpenAI
from openai.types import Batch
from rich.console import Console

from examples import calls, ledger, produce, report, submission, tickets
from examples.board import Board
from examples.calls import Call
from examples.tickets import Unmet

KEYS: Final = {"acme": "mr-acme-demo", "globex": "mr-globex-demo"}
SENSORS: Final = ("Is 31 degrees too hot for a server room?", "Is 18 degrees too cold for an office?")
PRODUCER: Final = "globex"
PRODUCER_TIMEOUT_S: Final = 120.0
PRODUCER_POLL_S: Final = 1.0
PLAIN_WIDTH: Final = 120


def clients() -> dict[str, OpenAI]:
    """A client for each tenant of the demo."""
    host, port = os.environ.get("MILLRACE_HTTP_HOST", "127.0.0.1"), os.environ.get("MILLRACE_HTTP_PORT", "8080")
    return {tenant: OpenAI(base_url=f"http://{host}:{port}/v1", api_key=key) for tenant, key in KEYS.items()}


class Demo:
    """One run. Its three lanes go on at the same time, each in a thread of its own."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._clients = clients()
        self._tickets = tickets.read(tickets.FILE.read_text(encoding="utf-8"))
        self._stop = threading.Event()
        self._records = [str(uuid.uuid4()) for _ in SENSORS]
        self._calls: list[Call] = []

    def run(self) -> None:
        """All of it; raises Unmet, or what the SDK raises."""
        repeated = sum(ticket.repeats for ticket in self._tickets)
        self._console.print(
            f"Sending {len(self._tickets)} support tickets as a batch ({repeated} of them repeats), beside it calls of "
            f"{len(KEYS)} tenants and {len(SENSORS)} Avro records.\n"
        )
        ended = self._lanes()
        output = tickets.answers(submission.content(self._clients["acme"], ended.output_file_id))
        errors = tickets.answers(submission.content(self._clients["acme"], ended.error_file_id))
        report.batch(self._console, ended, output, errors)
        report.calls(self._console, self._calls)
        tickets.check(self._tickets, output, errors)
        calls.check(self._calls[1:])
        self._lake(ended, repeated)

    def _lanes(self) -> Batch:
        totals = {"interactive": 1 + len(calls.PLAN), "standard": len(SENSORS), "batch": len(self._tickets)}
        created = submission.start(self._clients["acme"], tickets.FILE)
        with Board(self._console, totals) as board, ThreadPoolExecutor(len(totals)) as pool:
            show = partial(board.show, "batch")
            futures: list[Future[Batch | None]] = [
                pool.submit(submission.follow, self._clients["acme"], created.id, totals["batch"], show, self._stop),
                pool.submit(self._interactive, board, totals["interactive"]),
                pool.submit(self._standard, board, totals["standard"]),
            ]
            try:
                done, _ = wait(futures, return_when=FIRST_EXCEPTION)
            finally:
                self._stop.set()
        for future in done:
            future.result()
        ended = futures[0].result()
        assert ended is not None
        return ended

    def _interactive(self, board: Board, total: int) -> None:
        board.show("interactive", 0, total, "streaming")
        self._calls.append(calls.streamed(self._clients["acme"], "acme", board.stream))
        board.stream("", end=True)
        for tenant, model, question in calls.PLAN:
            if self._stop.is_set():
                return
            board.show("interactive", len(self._calls), total, f"{tenant} asks {model}")
            self._calls.append(calls.asked(self._clients[tenant], tenant, model, question))
        board.show("interactive", total, total, "answered")

    def _standard(self, board: Board, total: int) -> None:
        board.show("standard", 0, total, f"Avro on intake.{PRODUCER}")
        left, deadline = set(self._records), time.monotonic() + PRODUCER_TIMEOUT_S
        try:
            consumer = produce.listen(PRODUCER)
            produce.send(PRODUCER, [_record(i, text) for i, text in zip(self._records, SENSORS, strict=True)])
            while left and time.monotonic() < deadline and not self._stop.is_set():
                for answer in produce.answers(consumer, left, PRODUCER_POLL_S):
                    if answer["status"] != "completed":
                        raise Unmet(f"record {answer['request_id']} ended as {answer['status']}: {answer['body']}")
                    left.remove(answer["request_id"])
                    board.show("standard", total - len(left), total, f"{answer['correlation_id']} {answer['status']}")
            consumer.close()
        except Unmet:
            raise
        except Exception as error:  # the registry client raises its own, requests' and httpx's errors
            raise Unmet(f"Avro onto intake.{PRODUCER} failed: {type(error).__name__}: {error}") from error
        if left and not self._stop.is_set():
            raise Unmet(f"{len(left)} of {total} Avro records had no answer within {PRODUCER_TIMEOUT_S:.0f} s")

    def _lake(self, ended: Batch, repeated: int) -> None:
        others = [*(call.request_id for call in self._calls), *self._records]
        tokens = ended.usage.total_tokens if ended.usage else 0
        wanted = ledger.expected(len(self._tickets), repeated, len(others), tokens)
        mine = ledger.ours(ended.id, others)
        with self._console.status("waiting for the rows of this run in the Parquet files"):
            facts = ledger.wait(mine, wanted)
        report.usage(self._console, ledger.query(ledger.TABLE.format(mine=mine)))
        ledger.check(facts, wanted)
        report.ending(self._console, facts, ended.id)


def _record(request_id: str, text: str) -> dict[str, object]:
    message = {"role": "user", "content": text}
    return {"id": request_id, "messages": [message], "max_tokens": 16, "correlation_id": f"sensor-{text[3:5]}"}


def explain(error: openai.OpenAIError) -> str:
    """One line on what the SDK raised."""
    if isinstance(error, openai.APIConnectionError):
        return "the gateway cannot be reached: is the stack up? (`make up`, `make status`)"
    if isinstance(error, openai.AuthenticationError):
        return "the keys of the demo are unknown: `make apply CONFIG=config` publishes its tenants"
    return f"the gateway answered: {error}"


def main() -> int:
    """Run; 0, or 1 after one line on what did not happen."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=PLAIN_WIDTH)
    try:
        Demo(console).run()
    except Unmet as error:
        fault = str(error)
    except openai.OpenAIError as error:
        fault = explain(error)
    except KeyboardInterrupt:
        fault = "interrupted; the stack stays up, and so does the batch"
    else:
        return 0
    print(f"demo: {fault}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
