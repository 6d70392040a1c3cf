"""The arithmetic of the benchmarks."""

import pytest

from schemas.wire import Codec
from streams.memory import MemoryEngine
from tests.bench import admission, alone, batch, cpu, latency, meter, worker
from tests.bench.driver import Load, percentile
from tests.bench.report import Result, Row, Unmeasured, aligned, document, markdown


@pytest.mark.parametrize(("p", "value"), [(0.5, 50), (0.99, 99), (0.999, 100), (1.0, 100), (0.0, 1)])
def test_percentiles_are_exact(p: float, value: int) -> None:
    assert percentile(list(range(100, 0, -1)), p) == value


def test_nothing_has_no_percentile() -> None:
    with pytest.raises(Unmeasured):
        percentile([], 0.5)


def test_rows_meet_their_targets_from_the_right_side() -> None:
    assert Row("latency", 30.0, "ms", 30.0).met
    assert not Row("latency", 30.1, "ms", 30.0).met
    assert Row("rate", 2000, "/s", 2000, ">=").met
    assert not Row("rate", 1999, "/s", 2000, ">=").met
    assert Row("rate", None, "/s", 2000, ">=").met is False
    assert Row("rate", 5).met is None


def test_tables_say_what_was_not_measured() -> None:
    rows = [Row("rate", 2345.6, "/s", 2000, ">=", "a | b"), Row("batch", None, note="no stack")]
    assert "| rate | 2,346 /s | ≥ 2,000 /s | yes | a \\| b |" in markdown(rows)
    assert "not measured" in aligned(rows)
    assert document("now", {}, {"x": Result(rows, {"n": 1})})["benchmarks"]["x"]["rows"][0]["met"] is True


@pytest.mark.parametrize(("slots", "processes", "dealt"), [(8, 2, [4, 4]), (7, 2, [4, 3]), (1, 2, [1])])
def test_slots_are_dealt_out_whole(slots: int, processes: int, dealt: list[int]) -> None:
    assert alone.shares(slots, processes) == dealt


def test_cpu_of_an_idle_stack_is_taken_off() -> None:
    idle = meter.Spent(10.0, {"kafka": 1.0, "gateway": 0.0}, 0.0, 0.0)
    busy = meter.Spent(20.0, {"kafka": 4.0, "gateway": 1.0}, 0.0, 0.0)
    found = cpu.result(idle, busy, 1000, "")
    assert found.rows[0].value == pytest.approx(3.0)
    assert found.details["net_ms_by_process"] == {"kafka": 2.0, "gateway": 1.0}


def test_added_latency_is_the_difference_of_percentiles() -> None:
    found = latency.result(Load([1.0] * 99 + [5.0]), Load([11.0] * 99 + [25.0], {"HTTP 429": 2}))
    assert [row.value for row in found.rows] == [10.0, 10.0]
    assert "2 failed: HTTP 429" in found.rows[0].note


def test_batch_speed_is_a_share_of_the_engines_own() -> None:
    runs = {"alone": [alone.Run(100, 1.0), alone.Run(100, 1.0)], "platform": [alone.Run(90, 1.0)]}
    assert batch.result(runs, 8, 2).rows[0].value == pytest.approx(0.9)


def test_admission_answers_the_load_with_every_output() -> None:
    engine = MemoryEngine()
    engine.step("Policy", admission.policy(), 0)
    for _ in range(3):
        request, completion = admission.pair(1000)
        engine.step("Request", request, 1000)
        engine.step("Completion", completion, 1001)
    for topic in (*admission.ROWS, *(topic.name for topic in admission.TOPICS)):
        assert len(engine.read(topic)) == 3, topic
    assert Codec.offline().encode("Policy", admission.policy(closed=True))


def test_a_workers_cpu_is_shared_by_its_requests_and_processes_are_compared_with_one() -> None:
    runs = {1: worker.Run(20_000, 7.0, 2_000.0), 2: worker.Run(20_000, 9.0, 2_500.0)}
    found = worker.result(runs)
    assert [row.value for row in found.rows] == [pytest.approx(0.35), 2_000, 2_500]
    assert found.rows[0].met
    assert "1.25 times one process, 0.45 ms of CPU" in found.rows[2].note
