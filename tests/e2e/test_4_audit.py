"""After everything above: the books must balance, and a replay of the journal must decide the same again."""

from collections import Counter

from schemas import topics
from streams.memory import MemoryEngine
from tests import oracle
from tests.e2e import scan
from tests.e2e.evidence import collect, journal, read
from tests.e2e.evidence import topics as all_topics
from tests.e2e.stack import Stack, eventually
from tests.e2e.upstream import TELLTALE

DECIDED = (topics.USAGE, topics.RESPONSES, topics.AUDIT, topics.WASTE, topics.CREDITS, topics.SHADOWS)


def settled(stack: Stack) -> list[str]:
    """What the oracle still finds; transactions commit at checkpoints, so the last rows come a little later."""
    return oracle.audit(collect(stack))


def test_the_oracle_finds_nothing(stack: Stack):
    last: list[str] = []

    def clean() -> bool:
        last[:] = settled(stack)
        return not last

    try:
        eventually(clean, 60, "the books to balance")
    except AssertionError:
        raise AssertionError("\n".join(last[:20])) from None
    assert len(collect(stack).usage) > 500, "too little happened for this to mean much"


def test_parquet_holds_every_row_once_and_joins_without_orphans(stack: Stack):
    expected = len(collect(stack).usage)
    count = lambda: int(stack.sql("select count(*) n from usage")[0]["n"])  # noqa: E731
    eventually(lambda: count() >= expected, 90, "all rows in Parquet")
    (row,) = stack.sql(
        "select count(*) n, count(distinct (tenant, request_id)) d, count(r.request_id) joined"
        " from usage u full join responses r using (tenant, request_id)"
    )
    assert int(row["n"]) == int(row["d"]) == int(row["joined"]) == expected


def test_a_replay_in_the_memory_engine_decides_byte_for_byte_what_flink_decided(stack: Stack):
    entries = journal(stack)
    engine = MemoryEngine(stack.codec())
    for value, at in entries:
        engine.append(value, at)
    names = [t for t in all_topics(stack) if t.startswith(("work.", "replies."))]
    for topic in (*DECIDED, topics.BATCH_RESULTS, topics.CONTROL, *names):
        wrote = Counter((k.decode(), v) for part in read(stack, topic) for k, v, _, _ in part if is_decision(engine, v))
        replayed = Counter(engine.topics[topic])
        if topic in DECIDED:
            assert wrote == replayed, difference(topic, wrote, replayed)
        else:  # at least once: a restore may write a decision again, but never another one
            assert set(wrote) == set(replayed), difference(topic, wrote, replayed)
    assert engine.topics[topics.USAGE], "nothing was replayed"


def test_the_key_of_an_upstream_lies_nowhere(stack: Stack):
    seen: Counter[str] = Counter()
    leaks = []
    for where, content in scan.places(stack):
        kind = where.partition(" ")[0] if not where.startswith("file logs/") else "logs"
        seen[kind] += TELLTALE.encode() in content
        if stack.key.encode() in content:
            leaks.append(where)
    assert leaks == []
    # What stood beside the key is there: this looked where it would be.
    assert {kind for kind, n in seen.items() if n} >= {"topic", "lake", "file", "logs"}, seen


def is_decision(engine: MemoryEngine, value: bytes) -> bool:
    return engine.codec.decode(value)[0] != "Chunk"


def difference(topic: str, wrote: Counter, replayed: Counter) -> str:
    return f"{topic}: Flink alone {list(wrote - replayed)[:2]}, the replay alone {list(replayed - wrote)[:2]}"
