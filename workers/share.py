"""How many of a pool's slots belong to this worker. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas import topics

PARTITIONS: Final = topics.work("any", topics.LANES[0]).partitions


def slots(concurrency: int, partitions: Iterable[int], of: int = PARTITIONS) -> int:
    """This worker's part of `concurrency`, from the partition indexes assigned to it out of `of`.

    Partition p carries concurrency // of slots, and the first concurrency % of partitions one more, so the parts
    of all workers add up to the whole however partitions are spread. One worker with all partitions has them all.
    """
    each, rest = divmod(concurrency, of)
    return sum(each + (1 if p < rest else 0) for p in set(partitions))
