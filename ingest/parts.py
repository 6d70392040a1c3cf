"""Parts: outcomes of some lines of a batch, sorted by line, as written to S3 while the batch runs. Pure.

A part is text: one outcome a line, `<line number>TAB<o or e>TAB<JSON without a newline>`.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Final, NamedTuple, cast

from ingest.batch_document import Run
from ingest.results import Kind, Outcome

FOLDER: Final = "parts/"
# An outcome is one record of the log (8 MiB at most) with a few names around it.
LONGEST_LINE: Final = 9 * 1024 * 1024


# Parts that were written by an older version do not say what their highest line is.
UNKNOWN: Final = 10**9


class Part(NamedTuple):
    """A part by its name: whose it is, and its lowest and highest line."""

    epoch: int
    sequence: int
    lowest: int
    highest: int
    key: str


def folder(batch_id: str) -> str:
    """Where the parts of a batch are."""
    return f"{FOLDER}{batch_id}/"


def key(batch_id: str, epoch: int, sequence: int, lowest: int, highest: int) -> str:
    """The key of a part."""
    return f"{folder(batch_id)}{epoch:06d}-{sequence:08d}-{lowest:08d}-{highest:08d}"


def of_key(text: str) -> Part:
    """The part that `key` named so. Raises ValueError on another name."""
    epoch, sequence, lowest, *rest = map(int, text.rpartition("/")[2].split("-"))
    (highest,) = rest or (UNKNOWN,)
    return Part(epoch, sequence, lowest, highest, text)


def counted(keys: Iterable[str], runs: Sequence[Run]) -> list[Part]:
    """Parts that count, by lowest line. Others were left by a batcher that died, or lost the batch, before it could
    write down that it had written them.
    """
    good, expected = present(keys, runs), written(runs)
    assert len(good) == expected, f"{len(good)} parts are stored, {expected} were written down"
    return good


def present(keys: Iterable[str], runs: Sequence[Run]) -> list[Part]:
    """The same without a look at whether all are there: of a batch that ends meanwhile, some may be gone."""
    parts = (of_key(k) for k in keys)
    good = (p for p in parts if any(r.epoch == p.epoch and r.first <= p.sequence <= r.last for r in runs))
    return sorted(good, key=lambda p: p.lowest)


def written(runs: Sequence[Run]) -> int:
    """How many parts were written down."""
    return sum(r.last - r.first + 1 for r in runs)


def encode(outcomes: Iterable[Outcome]) -> bytes:
    """The text of a part."""
    return b"".join(b"%d\t%b\t%b\n" % (o.line, o.kind.encode(), o.text) for o in sorted(outcomes))


def decode(lines: Iterable[bytes]) -> Iterator[Outcome]:
    """The outcomes in the lines of a part."""
    for line in lines:
        number, kind, text = line.split(b"\t", 2)
        yield Outcome(int(number), cast(Kind, kind.decode()), text)


def merge(parts: Sequence[Part], read: Callable[[Part], Iterator[Outcome]]) -> Iterator[Outcome]:
    """All outcomes in the order of their lines. `parts` are sorted by lowest line.

    A part is opened only when its lowest line is next, so as many are open as overlap there, not all of them.
    """
    heap: list[tuple[int, int, Outcome, Iterator[Outcome]]] = []
    waiting = 0
    while heap or waiting < len(parts):
        while waiting < len(parts) and (not heap or parts[waiting].lowest <= heap[0][0]):
            rest = read(parts[waiting])
            if (first := next(rest, None)) is not None:
                heapq.heappush(heap, (first.line, waiting, first, rest))
            waiting += 1
        if not heap:
            return
        _, index, outcome, rest = heap[0]
        yield outcome
        if (following := next(rest, None)) is not None:
            heapq.heapreplace(heap, (following.line, index, following, rest))
        else:
            heapq.heappop(heap)


def between(parts: Sequence[Part], read: Callable[[Part], Iterator[Outcome]], low: int, high: int) -> Iterator[Outcome]:
    """Outcomes of the lines `low` to `high`, each of which is in one of `parts`, sorted by lowest line.

    AssertionError if one is missing or there twice.
    """
    expected = low
    wanted = [p for p in parts if p.lowest <= high and p.highest >= low]
    for outcome in merge(wanted, read) if expected <= high else ():
        if outcome.line < low:
            continue
        assert outcome.line == expected, f"the parts have line {outcome.line} where {expected} is next"
        yield outcome
        expected += 1
        if expected > high:
            break
    assert expected == high + 1, f"the parts have no line {expected}"
