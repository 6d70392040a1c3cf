"""The partitions that are ours: how far each has come, and which of them are not read for the moment."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from confluent_kafka import TopicPartition

from workers import watermark
from workers.intake import Intake
from workers.watermark import Watermark

Place = tuple[str, int]


def pool_and_lane(topic: str) -> tuple[str, str]:
    """Of a work topic; a pool's name may hold dots, a lane's does not."""
    pool, _, lane = topic.removeprefix("work.").rpartition(".")
    return pool, lane


class Partitions:
    """Watermarks by (topic, partition), and the pauses that the intake was asked for. `owner` names this process."""

    def __init__(self, owner: str) -> None:
        self._owner = owner
        self.intake: Intake | None = None
        self._marks: dict[Place, Watermark] = {}
        self._paused: set[Place] = set()

    def __iter__(self) -> Iterator[Place]:
        return iter(self._marks)

    def get(self, place: Place) -> Watermark | None:
        """The watermark of a partition; None if it is not ours."""
        return self._marks.get(place)

    def holds(self, marks: Iterable[Watermark]) -> bool:
        """Whether one of these is of a partition that is still ours."""
        ours = {id(mark) for mark in self._marks.values()}
        return any(id(mark) in ours for mark in marks)

    def topics(self) -> set[str]:
        """Topics of which some partition is ours."""
        return {topic for topic, _ in self._marks}

    def begin(self, committed: Iterable[TopicPartition], now_ms: int) -> dict[str, frozenset[int]]:
        """These are ours from their committed offsets on; the indexes by pool. `offsets` says so to who comes next."""
        by_pool: dict[str, set[int]] = {}
        for p in committed:
            start = max(0, p.offset)
            mark = self._marks[p.topic, p.partition] = Watermark(start, *watermark.parse(start, p.metadata))
            mark.open(self._owner, now_ms)
            self._paused.discard((p.topic, p.partition))
            by_pool.setdefault(pool_and_lane(p.topic)[0], set()).add(p.partition)
        return {pool: frozenset(indexes) for pool, indexes in by_pool.items()}

    def end(self, places: Iterable[Place]) -> list[TopicPartition]:
        """These are ours no longer; what to commit before they go."""
        places = [place for place in places if place in self._marks]
        for place in places:
            self._marks[place].close()
        offsets = self.offsets(places)
        for place in places:
            del self._marks[place]
            self._paused.discard(place)
        return offsets

    def offsets(self, places: Iterable[Place]) -> list[TopicPartition]:
        """What to commit, of those places where something changed since the last commit."""
        out = []
        for place in places:
            mark = self._marks.get(place)
            if mark is not None and mark.dirty:
                low, metadata = mark.commit()
                out.append(TopicPartition(*place, low, metadata))
        return out

    def pause(self, place: Place) -> None:
        """Stop reading a partition."""
        if place not in self._paused and self.intake is not None:
            self._paused.add(place)
            self.intake.pause([TopicPartition(*place)])

    def resume(self, roomy: Callable[[str], bool]) -> None:
        """Read again what has room: `roomy` says so of a topic's buffer, the watermark of the partition."""
        for place in list(self._paused):
            if self.intake is not None and self._marks[place].roomy and roomy(place[0]):
                self._paused.discard(place)
                self.intake.resume([TopicPartition(*place)])
