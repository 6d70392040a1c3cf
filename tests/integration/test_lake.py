"""The lake job on a real Flink, Kafka and S3: every committed row once, whatever is killed."""

from __future__ import annotations

from lake_world import Feed, query
from parts import Parts, await_

from schemas.wire import Codec

pytest_plugins = ("lake_world",)
FRESH_S = 30


def test_every_committed_row_lands_once(parts: Parts, kafka: str, codec: Codec, keeper: None) -> None:
    feed = Feed(kafka, codec)

    def landed() -> bool:
        return query(parts, "SELECT count(*) FROM usage") == [(len(feed.committed),)]

    feed.write(200)
    feed.write(50, end="abort")
    await_(landed, "the first rows", 90)
    feed.write(10)
    await_(landed, "rows of a running job", FRESH_S)

    feed.write(300)
    parts.stop("taskmanager", kill=True)
    feed.write(300)
    parts.start("taskmanager")
    feed.write(300)
    await_(landed, "rows around a killed TaskManager", 120)

    feed.write(300)
    for name in ("jobmanager", "taskmanager"):
        parts.stop(name, kill=True)
    feed.write(300, end="abort")
    feed.write(300)
    for name in ("jobmanager", "taskmanager"):
        parts.start(name)
    await_(landed, "rows around a forgotten job", 180)

    assert {row[0] for row in query(parts, "SELECT request_id FROM usage")} == feed.committed
    orphans = (
        "SELECT count(*) FROM usage FULL JOIN responses USING (tenant, request_id) WHERE body IS NULL OR pool IS NULL"
    )
    assert query(parts, orphans) == [(0,)]
    sums = 'SELECT sum(input_tokens), sum(output_tokens), count(DISTINCT request_id), bool_and(body = \'{"text":"é"}\')'
    rows = len(feed.committed)
    assert query(parts, f"{sums} FROM usage JOIN responses USING (request_id)") == [(5 * rows, 7 * rows, rows, True)]
    late = "SELECT count(*) FROM usage WHERE abs(epoch_ms(completed_at) - epoch_ms(now())) > 600000"
    assert query(parts, late) == [(0,)]
    wrong = "SELECT count(*) FROM usage WHERE dt <> completed_at::DATE OR hour <> extract(hour FROM completed_at)"
    assert query(parts, wrong) == [(0,)]
