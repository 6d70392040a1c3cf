from __future__ import annotations

import base64
from typing import Any

import pytest

from ingest import dead_letters, letters
from ingest.arrival import REPLAY_OF, Arrival, BadRecordError, dead_letter, identity
from ingest.letters import Choice, Letter

ARRIVAL = Arrival("intake.acme", 1, 42, b"k", b"\x00\x07\x1b[31mred\n", {"content-type": b"application/json"}, 5)


def letter(number: int = 3, *, replayed: bool = False, arrival: Arrival = ARRIVAL, **more: Any) -> Letter:
    record = dead_letter(arrival, BadRecordError("unknown schema id 7", 7), 1_000)
    return Letter(number, {**record, **more}, replayed)  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("choice", "taken"),
    [
        (Choice(), True),
        (Choice({3, 4}), True),
        (Choice({4}), False),
        (Choice(tenant="acme", topic="intake.acme", reason="Unknown SCHEMA"), True),
        (Choice(tenant="globex"), False),
        (Choice(topic="intake.globex"), False),
        (Choice(reason="registry"), False),
    ],
)
def test_letters_are_chosen_by_what_they_are(choice: Choice, taken: bool) -> None:
    assert choice.takes(letter()) is taken


def test_what_was_replayed_is_not_meant_unless_asked_for() -> None:
    assert not Choice({3}).takes(letter(replayed=True))
    assert Choice({3}, replayed=True).takes(letter(replayed=True))


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (letter(), ""),
        (letter(replayed=True), "already"),
        (letter(source_topic="work.echo.batch"), "only what producers wrote"),
        (letter(source_topic="journal", offset=-1, partition=-1), "only what producers wrote"),
        (letter(truncated=True), "only the beginning"),
    ],
)
def test_what_cannot_be_replayed_says_why(one: Letter, why: str) -> None:
    assert why in letters.obstacle(one) and bool(why) == bool(letters.obstacle(one))


def test_a_replay_says_which_record_it_is_however_often_it_fails() -> None:
    first = letter()
    assert letters.headers(first) == [("content-type", b"application/json"), (REPLAY_OF, b"1:42")]
    # It fails again, at another place; its second letter replays the same record once more.
    again = ARRIVAL._replace(offset=99, headers=dict(letters.headers(first)))
    second = letter(8, arrival=again)
    assert letters.headers(second) == letters.headers(first)
    assert identity(again) == identity(ARRIVAL)
    note = letters.replay(second, "op", 9)
    assert (note["partition"], note["offset"], note["letter"]) == (1, 42, 8)
    assert "(replay of 1:42)" in letters.line(second) and "intake.acme[1]@99" in letters.line(second)


def test_a_letter_harms_no_terminal_and_loses_no_byte() -> None:
    shown = letters.printable(ARRIVAL.value or b"")
    assert shown == "\\x00\\x07\\x1b[31mred\\n"
    assert letters.printable(b"\xff\xfe") == "\\xff\\xfe"
    assert letters.printable(b"x" * 300).endswith("… (300 bytes)")
    found = letters.document(letter())
    assert base64.b64decode(found["value"]) == ARRIVAL.value and base64.b64decode(found["key"]) == b"k"
    assert "\x1b" not in letters.line(letter(reason="\x1b[2J gone"))


@pytest.mark.parametrize("line", [[], ["show"], ["replay", "x"], ["bury"]])
def test_a_command_line_without_sense_is_refused(line: list[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        dead_letters.arguments().parse_args(line)
    assert caught.value.code == 2
