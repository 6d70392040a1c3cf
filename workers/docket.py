"""What is to be run: each piece of work once, however often its record comes. Decides nothing by itself but that."""

from __future__ import annotations

from typing import Final, cast

from confluent_kafka import Message

from schemas.records import Work
from schemas.wire import Codec, WireError
from workers.item import Item
from workers.recent import Recent
from workers.station import Station
from workers.watermark import Watermark

# A redelivery comes within the life of a restart; later the same identity is a new attempt.
FINISHED_MS: Final = 900_000


class Docket:
    """Work by identity: (tenant, request id, step)."""

    def __init__(self, codec: Codec) -> None:
        self._codec = codec
        self._finished: Recent[tuple[str, str, int], bool] = Recent(FINISHED_MS)
        self.open: dict[tuple[str, str, int], Item] = {}

    def enter(self, message: Message, mark: Watermark, offset: int, station: Station, now_ms: int) -> Item | None:
        """What is to be run; None if the record repeats something. Raises WireError if it cannot be read."""
        name, record = self._codec.decode(message.value() or b"")
        if name != "Work":
            raise WireError(f"a {name} has no place among work")
        work = cast(Work, record)
        identity = (work["tenant"], work["request_id"], work["step"])
        same = self.open.get(identity)
        if same is not None:
            same.marks.append((mark, offset))
        elif self._finished.get(identity, now_ms):
            mark.finish(offset)
        else:
            item = Item(work, identity, station, [(mark, offset)], len(message), now_ms)
            if mark.suspicion.suspects(offset, message.timestamp()[1]):
                item.suspect, item.deaths = message, mark.suspicion.deaths(offset)
            self.open[identity] = item
            return item
        return None

    def settle(self, item: Item, now_ms: int) -> None:
        """Its completion is with Kafka: its offsets need nothing more."""
        self._finished.add(item.identity, True, now_ms)
        for mark, offset in item.marks:
            mark.finish(offset)

    def leave(self, item: Item) -> None:
        """It runs no more."""
        if self.open.get(item.identity) is item:
            del self.open[item.identity]
