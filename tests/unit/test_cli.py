"""The command line against a double of the HTTP API (cli_double.FakeApi)."""

from __future__ import annotations

import hashlib
import io
import json
import time

import httpx
import pytest
from rich.console import Console
from typer.testing import CliRunner, Result

from ingest import credit as booking
from ingest.cli import board, progress, upload, watched
from ingest.cli import client as clients
from ingest.cli.__main__ import app
from ingest.cli.client import Client
from ingest.cli.fault import Fault
from ingest.cli.session import Address, Session
from tests.unit.cli_double import AWAY, BROKEN, KEY, FakeApi, batch, refusal

LINE = {"custom_id": "a", "method": "POST", "url": "/v1/embeddings", "body": {"model": "m", "input": "x"}}
ID = batch(1)["id"]


@pytest.fixture
def api(monkeypatch) -> FakeApi:
    """The double, with no wait between two attempts or looks."""
    fake = FakeApi()
    monkeypatch.setattr(Session, "client", lambda self: Client(Address("http://double/v1", self.key or KEY), fake))
    monkeypatch.setattr(clients.time, "sleep", lambda _s: None)
    return fake


def run(*line: str, stdin: str | bytes = "", key: str = "") -> Result:
    return CliRunner().invoke(app, [*(["--key", key] if key else []), *line], input=stdin)


def rows(done: Result) -> list[dict]:
    return [json.loads(row) for row in done.stdout.splitlines()]


@pytest.fixture
def lines(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text(json.dumps(LINE) + "\n")
    return path


def test_submit_sends_the_file_and_prints_the_id_alone(api, lines):
    done = run("submit", str(lines), "--window", "2h", "-m", "name=n", "-m", "team=t=1")
    assert (done.exit_code, done.stdout) == (0, f"{ID}\n")
    assert list(api.files.values()) == [("in.jsonl", lines.read_bytes())]
    (order,) = api.orders
    assert order == {
        "completion_window": "2h",
        "metadata": {"name": "n", "team": "t=1"},
        "input_file_id": next(iter(api.files)),
        "endpoint": "/v1/embeddings",
    }


def test_submit_takes_stdin_and_gives_json(api, lines):
    done = run("submit", "-", "--json", stdin=lines.read_text())
    assert done.exit_code == 0 and json.loads(done.stdout)["id"] == ID
    assert list(api.files.values()) == [("stdin.jsonl", lines.read_bytes())]


def test_submit_of_a_uri_sends_no_file(api):
    assert run("submit", "s3://b/in/", "--output-uri", "s3://b/out/").exit_code == 0
    assert api.orders == [
        {
            "completion_window": "24h",
            "output_uri": "s3://b/out/",
            "input_file_id": "s3://b/in/",
            "endpoint": "/v1/chat/completions",
        }
    ]
    assert not api.files


@pytest.mark.parametrize(
    ("content", "says"),
    [(b"", "no first line"), (b"\n{}\n", "no first line"), (b"{}\n", "url"), (b"not json\n", "url"), (b"[1]\n", "url")],
)
def test_submit_refuses_a_file_whose_endpoint_cannot_be_known(api, lines, content, says):
    lines.write_bytes(content)
    done = run("submit", str(lines))
    assert done.exit_code == 1 and says in done.stderr and not api.requests
    # The API judges lines; told the endpoint, the command sends them all the same.
    assert run("submit", str(lines), "--endpoint", "/v1/embeddings").exit_code == 0


def test_a_large_file_goes_in_parts_and_a_broken_one_is_sent_again(api, lines, monkeypatch):
    monkeypatch.setattr(upload, "PART_BYTES", 50)
    lines.write_text((json.dumps(LINE) + "\n") * 3)
    api.faults = [None, None, BROKEN, AWAY, refusal(503, "stopping", "shutting_down"), None]
    done = run("submit", str(lines))
    assert (done.exit_code, done.stdout) == (0, f"{ID}\n"), done.stderr
    assert list(api.files.values()) == [("in parts", lines.read_bytes())]
    assert api.requests.count(("POST", "/uploads/upload_1/parts")) == len(api.parts) + 3


def test_what_was_submitted_under_a_key_is_the_same_batch_and_is_sent_once(api, lines):
    for _ in range(2):
        assert run("submit", str(lines), "--idempotency-key", "k").stdout == f"{ID}\n"
    assert len(api.orders) == len(api.files) == 1
    ((name, _),) = api.files.values()
    assert name == f"in.{hashlib.sha256(lines.read_bytes()).hexdigest()[:32]}.jsonl"
    lines.write_text(json.dumps(LINE | {"custom_id": "b"}) + "\n")
    run("submit", str(lines), "--idempotency-key", "other")
    assert len(api.orders) == len(api.files) == 2


def going() -> list[dict]:
    """What one sees of a batch of ten lines, look by look."""
    waits = {"reason": "quota", "message": "Its lines wait for quota: 6 requests per minute.", "until": 1_700_000_060}
    ours = {"open_lines": 3, "lines_per_second": 2.5, "estimated_completion_at": 4_000_000_000, "paused": False}
    tokens = {"input_tokens": 40, "output_tokens": 20, "total_tokens": 60}
    return [
        batch(1, millrace={"waiting": {"reason": "validating", "message": "It is read.", "until": None}}),
        batch(1, status="in_progress", request_counts={"total": 10, "completed": 4, "failed": 0}, millrace=ours),
        batch(
            1,
            status="in_progress",
            request_counts={"total": 10, "completed": 5, "failed": 1},
            millrace={**ours, "waiting": waits},
        ),
        batch(1, status="completed", request_counts={"total": 10, "completed": 9, "failed": 1}, usage=tokens),
    ]


def test_watch_prints_a_json_line_at_each_change_with_stable_names(api):
    api.batches[ID] = going()
    done = run("watch", ID, "--json")
    assert done.exit_code == 0
    seen = [row for row in rows(done) if row["object"] == "batch.progress"]
    assert [(row["status"], row["completed"] + row["failed"], row["total"]) for row in seen] == [
        ("validating", 0, 0),
        ("in_progress", 4, 10),
        ("in_progress", 6, 10),
        ("completed", 10, 10),
    ]
    assert all(row.keys() == seen[0].keys() and row["lane"] == "batch" for row in seen)
    assert (seen[1]["lines_per_second"], seen[1]["open_lines"], seen[1]["cost_micros"]) == (2.5, 3, 7)
    assert seen[2]["waiting"]["reason"] == "quota" and seen[3]["input_tokens"] == 40
    lanes = [row for row in rows(done) if row["object"] == "lane.progress"]
    assert {row["lane"] for row in lanes} == {"interactive", "batch"} and lanes[0]["tokens_per_second"] > 0


def test_watch_waits_for_the_cost_of_the_last_lines(api):
    api.batches[ID] = going()[1:]
    # By turns of a batch and of the lanes: in progress, in progress, completed; then 8 of 10 rows, then all.
    api.used = [4, 9, 6, 9, 8, 9, 8, 9, 10]
    done = run("watch", ID, "--json")
    assert done.exit_code == 0 and api.requests.count(("GET", f"/batches/{ID}")) == 3
    assert not api.used


@pytest.mark.parametrize("ago_s, looks", [(1, 3), (3600, 1)])
def test_a_batch_that_had_ended_before_is_waited_for_only_if_that_was_just_now(api, ago_s, looks):
    api.batches[ID] = [{**going()[-1], "completed_at": int(time.time()) - ago_s}]
    api.used = [8, 9, 8, 9, 10, 9]
    assert run("watch", ID).exit_code == 0
    assert api.requests.count(("GET", "/usage")) >= looks and (len(api.used) == 4) == (looks == 1)


def test_watch_does_not_wait_for_it_for_ever(api, monkeypatch):
    monkeypatch.setattr(watched, "SETTLE_S", 0.05)
    api.batches[ID] = going()[2:]
    api.used = [1] * 1_000_000
    assert run("watch", ID).exit_code == 0


def test_watch_on_a_pipe_says_progress_aside_and_the_end_on_stdout(api):
    api.batches[ID] = going()
    done = run("watch", ID)
    assert done.exit_code == 0 and "\x1b" not in done.output
    assert done.stdout == f"{ID} completed: 10/10 lines, 1 failed, 40 + 20 tokens, cost 0.000007\n"
    assert "validating" in done.stderr and "in_progress: 4/10 lines, 2.5 lines/s" in done.stderr


@pytest.mark.parametrize("width", [40, 80, 200])
def test_a_board_fits_its_terminal(width):
    console = Console(width=width, record=True, file=io.StringIO(), force_terminal=True)
    now_s = 4_000_000_000 - 95
    lane = {"lane": "interactive", "requests_per_second": 0.5, "tokens_per_second": 1234.0, "cost_micros": 5}
    for look in going():
        console.print(board.block(progress.document(look, 12.5, 7), "a name", now_s))
    console.print(board.footer([{**lane, "seconds": 75}]))
    shown = console.export_text()
    assert max(map(len, shown.splitlines())) <= width
    joined = " ".join(shown.split())
    for text in (ID, "6/10", "1 failed", "12 tokens/s", "quota: 6 requests per minute. Until", "over the last 1m 15s"):
        assert text in joined, shown
    if width >= 80:
        assert "\n  2.5 lines/s · 12 tokens/s · cost 0.000007 · done in about 1m 35s" in shown


@pytest.mark.parametrize(("status", "code"), [("completed", 0), ("failed", 1), ("expired", 1), ("cancelled", 1)])
def test_watch_tells_by_its_exit_status_whether_all_completed(api, status, code):
    for number in (1, 2):
        api.batches[batch(number)["id"]] = [batch(number, status=status if number == 2 else "completed")]
    assert run("watch", *api.batches).exit_code == code


def test_watch_tells_why_a_file_was_refused(api):
    fault = {"code": "invalid_json_line", "message": "This line is not JSON.", "param": None, "line": 7}
    api.batches[ID] = [batch(1, status="failed", errors={"object": "list", "data": [fault] * 5})]
    done = run("watch", ID)
    assert done.exit_code == 1
    assert "line 7: This line is not JSON. (invalid_json_line)" in done.stdout and "2 more" in done.stdout


def test_watch_without_ids_watches_all_that_run(api):
    for number, status in enumerate(("completed", "in_progress", "failed", "validating"), 1):
        api.batches[batch(number)["id"]] = [batch(number, status=status), batch(number, status="completed")]
    done = run("watch")
    assert [row.split()[0] for row in done.stdout.splitlines()] == [batch(2)["id"], batch(4)["id"]]
    assert done.exit_code == 0
    done = run("watch")
    assert (done.exit_code, done.stdout) == (0, "") and "no batch" in done.stderr


def test_watch_survives_a_gateway_that_restarts_but_not_one_that_never_was(api):
    api.batches[ID] = going()
    api.faults = [None, None, None, AWAY, BROKEN, refusal(503, "stopping", "shutting_down"), None]
    assert run("watch", ID).exit_code == 0
    api.faults = [AWAY]
    done = run("watch", ID)
    assert done.exit_code == 1 and "is the stack up" in done.stderr


@pytest.mark.parametrize("fault", [refusal(503, "no Redis", "x"), refusal(404, "not Millrace", "x"), AWAY, BROKEN])
def test_live_usage_that_is_away_leaves_the_cost_unknown_and_is_not_waited_for(api, fault):
    api.batches[ID] = [batch(1, status="completed")]
    api.faults = [None, fault, fault]
    done = run("watch", ID, "--json")
    assert done.exit_code == 0 and rows(done)[0]["cost_micros"] is None
    assert len(api.requests) == 3


def test_a_gateway_that_does_not_come_back_is_given_up(api, monkeypatch):
    clock = iter(range(0, 10_000, 7))
    monkeypatch.setattr(clients.time, "monotonic", lambda: float(next(clock)))
    api.faults = [None, *[AWAY] * 100]
    client = Client(Address("http://double/v1", KEY), api)
    client.get("/files")
    with pytest.raises(Fault, match="nothing answers"):
        client.get("/files")
    assert 5 < len(api.requests) < 20


def test_get_shows_a_batch_and_its_json(api):
    api.batches[ID] = [going()[2]]
    done = run("get", ID)
    assert done.exit_code == 0 and "6/10 (1 failed)" in done.stdout and "wait for quota" in done.stdout
    assert json.loads(run("get", ID, "--json").stdout) == going()[2]
    done = run("get", "batch_none")
    assert done.exit_code == 1 and done.stderr == "millrace: No batch found with id 'batch_none'.\n"
    done = run("get", "batch_none", "--json")
    assert done.exit_code == 1 and json.loads(done.stderr)["error"]["status"] == 404


def ended(api: FakeApi, content: bytes) -> None:
    api.files["file-out"] = "out.jsonl", content
    api.files["file-err"] = "err.jsonl", b"bad\n"
    api.batches[ID] = [batch(1, status="completed", output_file_id="file-out", error_file_id="file-err")]


def test_get_writes_results_and_goes_on_where_a_connection_broke(api, tmp_path):
    ended(api, b"one\ntwo\nthree\n")
    api.cuts = [5, 0, 3]
    done = run("get", ID, "--results", str(tmp_path / "out"), "--errors", str(tmp_path / "err"))
    assert done.exit_code == 0, done.stderr
    assert (tmp_path / "out").read_bytes() == b"one\ntwo\nthree\n" and (tmp_path / "err").read_bytes() == b"bad\n"
    assert not done.stdout and "3 lines" in done.stderr and sorted(p.name for p in tmp_path.iterdir()) == ["err", "out"]


def test_get_writes_to_stdout_and_nothing_else_there(api):
    ended(api, b"one\n")
    assert run("get", ID, "-o", "-").stdout == "one\n"
    assert run("get", ID, "-o", "-", "--json").stdout == "one\n"
    assert run("get", "file-out", "-o", "-").stdout == "one\n"
    assert run("get", ID, "--errors", "-").stdout == "bad\n"


def test_get_partial_of_one_that_runs(api, tmp_path):
    api.batches[ID] = [going()[2]]
    assert run("get", ID, "-o", "-", "--partial").stdout == "so far\n"
    api.batches[ID] = [going()[2]]
    api.cuts = [2]
    done = run("get", ID, "-o", str(tmp_path / "out"), "--partial")
    assert done.exit_code == 1 and "broke off" in done.stderr and not list(tmp_path.iterdir())


def test_get_says_when_it_cannot_write(api, tmp_path):
    ended(api, b"one\n")
    done = run("get", ID, "-o", str(tmp_path / "none" / "out"))
    assert done.exit_code == 1 and "cannot be written" in done.stderr


def test_ls_pages_chooses_and_prints_json_lines(api):
    for number in range(1, 8):
        status = "failed" if number % 2 else "completed"
        api.batches[batch(number)["id"]] = [batch(number, status=status, metadata={"name": f"n{number}"})]
    assert [row["id"] for row in rows(run("ls", "--json"))] == list(api.batches)
    assert len(rows(run("ls", "--json", "-n", "3"))) == 3
    assert len(rows(run("ls", "--json", "-n", "1", "--all"))) == 7
    done = run("ls", "--status", "failed", "-n", "2")
    assert len(done.stdout.splitlines()) == 3 and "n3" in done.stdout and "n2" not in done.stdout


def test_names_are_text_whatever_is_in_them(api):
    api.batches[ID] = [batch(1, metadata={"name": "[red]a[/] :smile: [/x]", "k": "[b]"})]
    for line in (("ls",), ("get", ID)):
        done = run(*line)
        assert done.exit_code == 0 and "[red]a[/] :smile: [/x]" in done.stdout
        assert not any(row != row.rstrip() for row in done.stdout.splitlines())


def test_json_may_be_asked_for_before_the_command(api):
    api.batches[ID] = [batch(1)]
    for line in (("ls",), ("get", ID), ("chat", "x"), ("usage",)):
        assert run("--json", *line).stdout == run(*line, "--json").stdout != run(*line).stdout


def test_orders_reach_the_others_when_one_is_refused(api):
    for number, status in ((1, "completed"), (2, "in_progress")):
        api.batches[batch(number)["id"]] = [batch(number, status=status)]
    done = run("cancel", *api.batches)
    assert (done.exit_code, done.stdout) == (1, f"{batch(2)['id']} cancelling\n")
    assert ID in done.stderr and "too late" in done.stderr
    done = run("pause", batch(2)["id"], "--json")
    assert done.exit_code == 0 and rows(done)[0]["status"] == "in_progress"


def test_retry_says_what_was_asked(api):
    done = run("retry", ID, "--only", "failed", "--only", "expired", "--window", "1h", "-m", "a=b")
    assert (done.exit_code, done.stdout) == (0, f"{ID}\n")
    assert api.orders == [{"only": ["failed", "expired"], "completion_window": "1h", "metadata": {"a": "b"}}]


def test_chat_asks_and_prints_the_answer(api):
    done = run("chat", "--system", "s", "--max-tokens", "5", "--temperature", "0", "one", "two")
    assert (done.exit_code, done.stdout) == (0, "one two\n")
    assert api.orders[0] == {
        "model": "default",
        "messages": [{"role": "system", "content": "s"}, {"role": "user", "content": "one two"}],
        "max_tokens": 5,
        "temperature": 0,
    }
    assert run("chat", "-", stdin="from stdin\n").stdout == "from stdin\n"
    assert json.loads(run("chat", "--json", "x").stdout)["id"] == "chatcmpl-1"
    run("chat", "--flex", "--model", "m", "x")
    assert api.orders[-1] == {
        "model": "m",
        "messages": [{"role": "user", "content": "x"}],
        "service_tier": "flex",
    }


def test_chat_asks_again_under_its_key_when_the_gateway_restarts(api):
    run("ls")
    api.faults = [None, BROKEN, AWAY]
    api.batches[ID] = [batch(1)]
    client = Client(Address("http://double/v1", KEY), api)
    client.get("/batches", limit=1)
    answer = client.post("/chat/completions", {"messages": [{"role": "user", "content": "x"}]}, key="k")
    assert answer["id"] == "chatcmpl-1" and api.requests[-3:] == [("POST", "/chat/completions")] * 3


def chunk(text: str) -> str:
    return json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]})


def test_chat_streams(api):
    api.stream = [chunk("one"), chunk(" two"), json.dumps({"choices": [], "usage": {}}), "[DONE]"]
    done = run("chat", "--stream", "x")
    assert (done.exit_code, done.stdout) == (0, "one two\n") and api.orders[0]["stream"]
    assert len(rows(run("chat", "--stream", "--json", "x"))) == 3


@pytest.mark.parametrize("end", [[], [json.dumps({"error": {"message": "it died", "code": "interrupted"}})]])
def test_a_stream_that_ends_badly_is_told(api, end):
    api.stream = [chunk("one"), *end]
    done = run("chat", "--stream", "x")
    assert done.exit_code == 1 and done.stdout.startswith("one")
    assert "it died" in done.stderr if end else "broke off" in done.stderr


def test_usage_is_shown_by_tenant_and_lane(api):
    done = run("usage", "--lanes")
    assert done.exit_code == 0 and "acme" in done.stdout and "  batch" in done.stdout and "0.000007" in done.stdout
    assert json.loads(run("usage", "--batch", ID, "--json").stdout)["total"]["cost_micros"] == 7


def test_a_wrong_key_and_a_wrong_address_are_told_apart(api):
    done = run("ls", key="wrong")
    assert done.exit_code == 1 and "does not know this key" in done.stderr and "MILLRACE_API_KEY" in done.stderr
    api.faults = [httpx.Response(200, text="<html>")]
    done = run("ls")
    assert done.exit_code == 1 and "is it Millrace" in done.stderr
    api.faults = [httpx.Response(404, text="<html>")]
    done = run("ls")
    assert done.exit_code == 1 and "404" in done.stderr and "not as Millrace does" in done.stderr


def test_deliveries_are_listed_and_told_again(api):
    done = run("webhooks", "ls", "--status", "pending", "--tenant", "acme")
    assert done.exit_code == 0 and "evt_1" in done.stdout and "pending, again " in done.stdout
    assert api.orders == [{"limit": "100", "status": "pending", "tenant": "acme"}]
    assert rows(run("webhooks", "ls", "--json"))[0]["endpoint"] == "crm"
    done = run("webhooks", "redeliver", "evt_1", "--endpoint", "crm", "--tenant", "acme")
    assert (done.exit_code, done.stdout) == (0, "evt_1 goes to crm\n")
    assert api.orders[-1] == {"endpoint": "crm", "tenant": "acme"}


def test_what_the_operator_asks_for_needs_to_know_where_kafka_is(monkeypatch):
    for name in ("MILLRACE_KAFKA", "MILLRACE_SERVICE"):
        monkeypatch.delenv(name, raising=False)
    for line in (("keys", "ls"), ("credit", "acme", "-5"), ("dead-letters", "ls")):
        done = run(*line)
        assert done.exit_code == 1 and "is not set" in done.stderr and not done.stdout
    assert run("dead-letters", "ls", "--nonsense").exit_code in (1, 2)
    assert "replay" in run("dead-letters", "--help").stdout


def test_a_booking_is_told():
    record = booking.entry(booking.Asked("acme", -5, id="e"), 7)
    assert (record["kind"], record["amount_micros"], record["entry_id"], record["at"]) == ("credit", -5, "e", 7)
    assert booking.told(record, {**record, "balance_micros": 95}) == "credit of -5 booked as e; the balance is 95"
    assert "booked before" in booking.told(record, None)
    for asked in (booking.Asked("acme", 0), booking.Asked("acme", -1, refund="r"), booking.Asked("acme", 10**16)):
        with pytest.raises(booking.BookingError):
            booking.entry(asked, 7)
