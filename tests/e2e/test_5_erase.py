"""A person is erased from a running stack. After the audit of everything else, which counts all rows."""

from __future__ import annotations

import json
import uuid
from typing import Any

import openai
import pytest
import redis

from streams import subject
from tests.e2e import scan
from tests.e2e.evidence import records
from tests.e2e.producing import produce
from tests.e2e.stack import Stack, eventually


def test_a_person_is_gone_from_lake_cache_and_replies_and_nobody_else_is(stack: Stack) -> None:
    # The tenant's topic takes JSON too; its rules block, so that there are rows of audit.
    client, mark = stack.client("chaos", max_retries=0), uuid.uuid4().hex
    ann, bob = f"ann-{mark}", f"bob-{mark}"

    def ask(text: str, user: str, key: str = "") -> Any:
        said = {"model": "echo", "messages": [{"role": "user", "content": text}], "user": user, "temperature": 0}
        headers = {"idempotency-key": key} if key else {}
        return client.chat.completions.with_raw_response.create(**said, extra_headers=headers)

    asked = {
        name: [
            ask(f"{text} of {name}", name, key).headers["x-request-id"]
            for text, key in (("one", ""), ("two", f"k-{name}"), ("a banned phrase", ""), ("four", ""))
        ]
        for name in (ann, bob)
    }
    assert [ask(f"all ask {mark}", name).headers["x-millrace-cache"] for name in (ann, bob)] == ["miss", "hit"]
    letters = [f'{{"user": "{name}", "messages": '.encode() for name in (ann, bob)]
    produce(stack, "chaos", *letters)

    def rows(table: str, name: str, what: str = "count(*)") -> int:
        ids = ", ".join(f"'{x}'" for x in asked[name])
        (row,) = stack.sql(f"SELECT {what} AS n FROM {table} WHERE tenant = 'chaos' AND request_id IN ({ids})")
        return int(row["n"])

    def in_files(text: str) -> set[str]:
        """Tables of the lake with files that hold a text, whatever the files are."""
        held = (
            ("responses", "body"), ("dead_letters", "CAST(value AS VARCHAR)"), ("usage", '"user"')
        )  # fmt: skip
        return {
            table for table, column in held
            if stack.sql(f"SELECT 1 AS n FROM {table} WHERE contains({column}, '{text}') LIMIT 1")
        }  # fmt: skip

    tables = {"responses", "dead_letters"}
    eventually(lambda: in_files(ann) == in_files(bob) == tables, 90, "everything in files")
    eventually(lambda: rows("usage", ann) == rows("usage", bob) == 4, 90, "all of it")
    assert in_files(subject.of("chaos", ann)) == {"usage"}
    before = rows("usage", ann, "sum(cost_micros)")
    assert rows("audit", ann) == rows("audit", bob) == 1 and before > 0

    done = stack.command("exec", "--", "python", "-m", "streams.erase", "--tenant", "chaos", "--user", ann)
    print(done.stdout, done.stderr)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "responses: 5 rows gone" in done.stdout and "usage: 5 rows name nobody now" in done.stdout
    assert "left: nothing" in done.stdout

    assert in_files(ann) == in_files(subject.of("chaos", ann)) == set()
    assert (rows("responses", ann), rows("audit", ann), rows("usage", ann)) == (0, 0, 4)
    assert rows("usage", ann, "sum(cost_micros)") == before, "an invoice has changed"
    assert in_files(bob) == tables and (rows("responses", bob), rows("audit", bob)) == (4, 1)
    assert ask(f"all ask {mark}", bob).headers["x-millrace-cache"] == "miss"
    with pytest.raises(openai.APIStatusError) as gone:
        ask(f"two of {ann}", ann, f"k-{ann}")
    assert (gone.value.status_code, gone.value.code) == (410, "erased")
    assert ask(f"two of {bob}", bob, f"k-{bob}").headers["x-request-id"] == asked[bob][1]

    (told,) = records(stack, "erasures")
    assert told["replies"] == 1 and told["answers"] >= 4 and ann not in json.dumps(told)
    store = redis.Redis(port=stack.ports["REDIS"])
    assert not [key for key in store.scan_iter() if ann in f"{key!r} {scan.value(store, key)!r}"]


def test_a_person_nobody_knows_is_no_fault_and_a_stack_that_is_down_is(stack: Stack) -> None:
    done = stack.command("exec", "--", "python", "-m", "streams.erase", "--tenant", "chaos", "--user", "nobody")
    assert done.returncode == 0 and "0 requests" in done.stdout
    away = stack.command(
        "exec", "--", "env", "MILLRACE_S3=http://127.0.0.1:9", "python", "-m", "streams.erase", "--tenant", "chaos",
        "--user", "nobody",
    )  # fmt: skip
    assert away.returncode == 2 and away.stderr.startswith("not erased: ")
