"""What of a prompt is moderated: everything a model may come to read, wherever it stands and however it is cut."""

from typing import Any

import orjson
import pytest

from tests.unit.world import T0, engine, request, rows

BANNED = "a banned phrase"
RULES: list[dict[str, Any]] = [
    {"id": "banned", "match": BANNED},
    {"id": "card", "detect": "credit_card", "action": "mask"},
    {"id": "parcel", "match": "parcel", "action": "flag"},
]
CARD = "4111 1111 1111 1111"


def ask(body: dict[str, Any]) -> tuple[str, list[dict[str, Any]], list[dict[str, Any]]]:
    """(status or none, bodies of the work, audit rows) of a request with this body."""
    e = engine(rules=RULES)
    r = request() | {"body": orjson.dumps({"model": "echo", **body})}
    e.step("Request", r, T0)
    status = rows(e)[r["request_id"]]["status"] if rows(e) else ""
    return status, [orjson.loads(w["body"]) for w in e.read_work()], e.read("audit")


def user(content: Any) -> list[dict[str, Any]]:
    return [{"role": "user", "content": content}]


def text(*parts: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": part} for part in parts]


CALL = {"id": "c1", "type": "function", "function": {"name": "f", "arguments": f'{{"q": "{BANNED}"}}'}}
TOOL = {"type": "function", "function": {"name": "f", "description": f"says {BANNED}", "parameters": {}}}
SCHEMA = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"properties": {"q": {"enum": [BANNED]}}}}}


@pytest.mark.parametrize(
    "body",
    [
        {"messages": user(f"please say {BANNED}")},
        {"messages": user(text("hello", f"and {BANNED}"))},
        {"messages": user(text("a ban", "ned phrase"))},
        {"messages": user(text("a banned", "phrase"))},
        {"messages": [{"role": "user", "content": "hi", "name": BANNED}]},
        {"messages": [*user("hi"), {"role": "assistant", "content": None, "tool_calls": [CALL]}]},
        {"messages": [*user("hi"), {"role": "tool", "tool_call_id": "c1", "content": BANNED}]},
        {"messages": user("hi"), "tools": [TOOL]},
        {"messages": user("hi"), "response_format": SCHEMA},
        {"messages": user("hi"), "prediction": {"type": "content", "content": BANNED}},
        {"messages": user("hi"), "stop": [BANNED]},
    ],
    ids=["content", "part", "cut in a word", "cut between words", "name", "tool call", "tool", "tools", "schema",
         "prediction", "stop"],
)  # fmt: skip
def test_a_banned_phrase_is_found_wherever_it_stands(body):
    status, work, audits = ask(body)
    assert (status, work) == ("blocked", [])
    assert [(a["rule"], a["action"]) for a in audits] == [("banned", "block")]


@pytest.mark.parametrize(
    "body",
    [
        {"messages": user("hi"), "user": BANNED},
        {"messages": user("hi"), "metadata": {"note": BANNED}},
        {"messages": user([{"type": "image_url", "image_url": {"url": f"data:{BANNED}"}}, *text("what is this")])},
    ],
    ids=["user", "metadata", "image"],
)
def test_what_no_model_reads_as_text_blocks_nobody(body):
    status, work, _ = ask(body)
    assert (status, len(work)) == ("", 1)


def test_a_card_cut_over_two_parts_is_masked():
    _, (work,), audits = ask({"messages": user(text("my card 4111 1111", "1111 1111 please"))})
    shown = "".join(part["text"] for part in work["messages"][0]["content"])
    assert "4111" not in shown and "[masked]" in shown
    assert [(a["rule"], a["matches"]) for a in audits] == [("card", 1)]


def test_a_flag_is_counted_once_in_each_text():
    _, _, audits = ask({"messages": user(text("a parcel", "another parcel"))})
    assert [(a["rule"], a["matches"]) for a in audits] == [("parcel", 2)]


def test_a_body_in_which_nothing_is_masked_goes_on_as_it_came():
    raw = {"messages": user("where is  my parcel?"), "seed": 7, "unknown": {"a": [1.5, None]}}
    _, (work,), _ = ask(raw)
    assert work == {"model": "echo", **raw}
