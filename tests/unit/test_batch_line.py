"""Lines and files of batches: every fault by its code and its line."""

from __future__ import annotations

import tracemalloc
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest import batch_line, batch_validation, hashes
from ingest.batch_line import Fault, Line
from ingest.batch_validation import Validation, Verdict
from ingest.hashes import Hashes, Repetition
from ingest.input_lines import Chunker, Splitter, split
from streams.judging import DEFAULT, MODERATIONS, NAMES

URL = "/v1/chat/completions"


def line(custom_id: Any = "a", **changes: Any) -> dict[str, Any]:
    return {"custom_id": custom_id, "method": "POST", "url": URL, "body": {"model": "echo"}, **changes}


def parse(value: Any) -> Line | Fault:
    return batch_line.parse(orjson.dumps(value))


def validate(lines: list[Any], ended: bool = True) -> Verdict:
    """What validation says, which is the same however many lines it is given at once."""
    raw = [value if isinstance(value, bytes) else orjson.dumps(value) for value in lines]
    data = b"\n".join(raw) + (b"\n" if ended and raw else b"")
    verdicts = set()
    for size in (7, 200, len(data) + 1):
        validation, chunker = Validation(URL, lambda name: name in ("echo", "other")), Chunker()
        for at in range(0, len(data), size):
            validation.add_lines(chunker.feed(data[at : at + size]))
        validation.add(chunker.finish())
        verdicts.add(validation.finish())
    one_by_one = Validation(URL, lambda name: name in ("echo", "other"))
    for value in raw:
        one_by_one.add(value)
    assert verdicts == {one_by_one.finish()}
    return verdicts.pop()


def test_a_good_line_keeps_its_body_to_the_byte() -> None:
    body = b'{"model": "echo",  "x": 1e2, "messages": [{"content": "\\u00e9"}], "priority": null}'
    raw = b'{"custom_id": "a", "method": "POST", "url": "%b", "body": %b}' % (URL.encode(), body)
    assert batch_line.parse(raw) == Line("a", URL, "echo", body)


@pytest.mark.parametrize(
    ("value", "param"),
    [
        (line(custom_id=7), "custom_id"),
        (line(custom_id=""), "custom_id"),
        (line(custom_id="x" * 65), "custom_id"),
        ({"method": "POST", "url": URL, "body": {"model": "echo"}}, "custom_id"),
        (line(method="GET"), "method"),
        (line(method=None), "method"),
        (line(url=1), "url"),
        (line(body="text"), "body"),
        (line(body=None), "body"),
        (line(body={}), "body.model"),
        (line(body={"model": 3}), "body.model"),
        (line(body={"model": ""}), "body.model"),
        (line(body={"model": "echo", "stream": True}), "body.stream"),
        ([1], None),
        ("text", None),
    ],
)
def test_faults_of_a_line(value: Any, param: str | None) -> None:
    fault = parse(value)
    assert isinstance(fault, Fault)
    assert (fault.code, fault.param) == ("invalid_request", param)


@pytest.mark.parametrize("raw", [b"{", b"\xef\xbb\xbf{}", b'{"custom_id": "\xff"}', b"{} {}", b'{"a": NaN}'])
def test_what_is_not_json(raw: bytes) -> None:
    fault = batch_line.parse(raw)
    assert isinstance(fault, Fault) and fault.code == "invalid_json_line"


def test_a_line_that_is_too_long() -> None:
    fault = parse(line(body={"model": "echo", "x": "y" * batch_line.MAX_LINE_BYTES}))
    assert isinstance(fault, Fault) and fault.code == "invalid_request"


def test_stream_false_is_no_fault() -> None:
    assert isinstance(parse(line(body={"model": "echo", "stream": False})), Line)


def test_a_moderation_that_names_no_model_means_openais_newest() -> None:
    for body in ({"input": "x"}, {"input": "x", "model": None}):
        parsed = parse(line(url=MODERATIONS, body=body))
        assert isinstance(parsed, Line) and parsed.model == DEFAULT
    assert isinstance(parse(line(url=MODERATIONS, body={"model": 3})), Fault)
    validation = Validation(MODERATIONS, NAMES.__contains__)
    lines = [line("a", url=MODERATIONS, body={"input": "x"}), line("b", url=MODERATIONS, body={"model": DEFAULT})]
    validation.add_lines(b"".join(orjson.dumps(value) + b"\n" for value in lines))
    assert validation.finish() == Verdict(2, DEFAULT, ())


def test_a_good_file() -> None:
    assert validate([line("a"), line("b"), b"", b" \r"]) == Verdict(2, "echo", ())


def test_every_bad_line_is_reported_with_its_number() -> None:
    verdict = validate(
        [
            line("a"),
            b"",
            line("a"),
            line("b", url="/v1/embeddings"),
            line("c", body={"model": "other"}),
            b"nonsense",
            line("d"),
        ]
    )
    assert [(f.line, f.code) for f in verdict.faults] == [
        (2, "invalid_json_line"),
        (3, "duplicate_custom_id"),
        (4, "url_mismatch"),
        (5, "model_mismatch"),
        (6, "invalid_json_line"),
    ]


def test_an_unknown_model_and_an_empty_file() -> None:
    assert validate([line(body={"model": "nobody"})]).faults[0][:1] == ("model_not_found",)
    assert validate([b"", b""]).faults[0].code == "empty_file"
    assert validate([]).faults[0].line is None


def test_faults_are_bounded() -> None:
    assert len(validate([b"x"] * 3000).faults) == batch_validation.MAX_FAULTS


def test_too_many_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_validation, "MAX_LINES", 3)
    assert [f.code for f in validate([line(str(n)) for n in range(9)]).faults] == ["too_many_tasks"]
    assert not validate([line(str(n)) for n in range(3)]).faults


@given(st.lists(st.text(max_size=2)), st.integers(1, 9), st.integers(1, 5))
def test_repetitions_are_found_in_order(members: list[str], most: int, step: int) -> None:
    found, kept, reference = Hashes(), hashes.STEP, dict[str, int]()
    expected = []
    for place, member in enumerate(members):
        found.add(member)
        if reference.setdefault(member, place) != place:
            expected.append(Repetition(place, reference[member]))
    hashes.STEP = step  # type: ignore[misc]
    try:
        assert found.repetitions(most) == expected[:most]
    finally:
        hashes.STEP = kept  # type: ignore[misc]


def test_hashes_take_eight_bytes_each() -> None:
    found = Hashes()
    tracemalloc.start()
    found.extend(str(n) for n in range(200_000))
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert found.repetitions(1) == [] and held < 10 * 200_000
    found.add("77777")
    assert found.repetitions(1) == [Repetition(200_000, 77_777)]


good = st.builds(line, st.text(st.characters(codec="utf-8"), min_size=1, max_size=3))
bad = st.one_of(
    st.sampled_from([line(url="/v1/embeddings"), line(body={"model": "other"}), line(method="GET"), [], 7]),
    st.builds(
        lambda value: line(body={"model": "echo", "stream": value}), st.sampled_from([True, False, None, "x", []])
    ),
    st.builds(lambda n: line("é" * n), st.integers(60, 70)),
    st.sampled_from([b"", b" ", b"{}", b"{} {}", b"{", b"}", b'"\xff"', b"[1,", b"2]", b"nul", b"\r"]),
    st.binary(max_size=4).filter(lambda b: b"\n" not in b),
    st.builds(
        lambda v: orjson.dumps(line(body={"model": "echo", "x": "Q"})).replace(b"Q", v), st.binary(max_size=3)
    ).filter(lambda b: b"\n" not in b),
)


@given(st.lists(st.one_of(good, bad)), st.booleans())
def test_many_lines_at_once_are_judged_as_each_alone(lines: list[Any], ended: bool) -> None:
    validate(lines, ended)


@given(st.lists(good, unique_by=lambda value: str(value["custom_id"]), min_size=1))
def test_good_lines_are_good(lines: list[Any]) -> None:
    assert validate(lines) == Verdict(len(lines), "echo", ())


def test_long_lines_among_others() -> None:
    long = line("long", body={"model": "echo", "x": "y" * batch_line.MAX_LINE_BYTES})
    longest = line("b", body={"model": "echo", "x": "y" * (batch_line.MAX_LINE_BYTES - 200)})
    data = b"".join(orjson.dumps(v) + b"\n" for v in (line("a"), long, line("b"), longest, line("c")))
    validation, chunker = Validation(URL, lambda name: True), Chunker()
    for at in range(0, len(data), 262_144):
        validation.add_lines(chunker.feed(data[at : at + 262_144]))
    verdict = validation.finish()
    assert [(f.line, f.code) for f in verdict.faults] == [(2, "invalid_request"), (4, "duplicate_custom_id")]
    assert verdict.total == 5


def test_a_line_that_is_nested_without_end() -> None:
    raw = orjson.dumps(line(body={"model": "echo", "x": "Q"})).replace(b'"Q"', b"[" * 9_999 + b"]" * 9_999)
    assert [(f.line, f.code) for f in validate([line("a"), raw, line("b")]).faults] == [(2, "invalid_request")]


def test_a_line_that_never_ends_is_not_kept() -> None:
    chunker, block = Chunker(longest=1_000), b"x" * 10_000
    tracemalloc.start()
    for _ in range(500):
        assert chunker.feed(block) == b""
    held, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert held < 5_000 and len(chunker.finish()) == 1_001


@given(st.lists(st.binary(max_size=9).filter(lambda b: b"\n" not in b)), st.integers(1, 7), st.booleans())
def test_lines_do_not_depend_on_blocks(lines: list[bytes], size: int, newline: bool) -> None:
    data = b"\n".join(lines) + (b"\n" if newline else b"")
    blocks = [data[at : at + size] for at in range(0, len(data), size)]
    expected = data.split(b"\n")
    assert list(split(blocks)) == (expected[:-1] if expected[-1] == b"" else expected)
    chunker = Chunker()
    pieces = [chunker.feed(block) for block in blocks]
    assert all(not piece or piece.endswith(b"\n") for piece in pieces)
    assert b"".join([*pieces, chunker.finish()]) == data
    splitter = Splitter()
    found = [one for block in blocks for one in splitter.feed(block)]
    for one in [*found, *splitter.finish()]:
        assert data[one.offset : one.offset + len(one.raw)] == one.raw


def test_a_long_line_is_cut_but_counted() -> None:
    splitter = Splitter(longest=4)
    found = [one for block in (b"abc", b"defgh", b"ij\nk\n") for one in splitter.feed(block)]
    assert [(one.number, one.offset, one.raw) for one in found] == [(1, 0, b"abcdeij"), (2, 11, b"k")]
