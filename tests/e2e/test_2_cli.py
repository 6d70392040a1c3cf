"""The command line, every command of it, against the real stack."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import pytest

from infra.local.settings import Settings
from ingest.services import s3_client
from schemas.addresses import Addresses
from tests.e2e.commanding import Commands, lines, said
from tests.e2e.configuration import CLI_BUCKET
from tests.e2e.stack import Stack, eventually

# Lines of a batch that no test waits for.
LONG = 2_000
TEXTS = [f"line {i} says hello" for i in range(50)]
# Four words in, four words out, at 1 and 2 micro-units a token.
COST = 50 * (4 * 1 + 4 * 2)
ID = re.compile(r"batch_[0-9a-f]{32}\n")


@pytest.fixture
def cli(stack: Stack, tmp_path: Path) -> Commands:
    return Commands(stack, "mr-cli", tmp_path)


def counts(cli: Commands, batch_id: str) -> dict:
    return json.loads(cli.good("get", batch_id, "--json").out)["request_counts"]


def running(cli: Commands, count: int) -> str:
    """A batch that is under way, and takes a second for about ten of its lines."""
    path = lines(cli.folder / "slow.jsonl", [f"{i} " + "word " * 40 for i in range(count)], "slow")
    batch_id = cli.good("submit", str(path)).out.strip()
    eventually(lambda: counts(cli, batch_id)["completed"] > 0, 60, "the first line")
    return batch_id


def test_a_file_becomes_a_batch_whose_results_come_back_in_order(cli: Commands):
    path = lines(cli.folder / "in.jsonl", TEXTS)
    submitted = cli.good("submit", path.name, "--metadata", "name=fifty", "--window", "2h")
    assert ID.fullmatch(submitted.out), submitted.out
    batch_id = submitted.out.strip()
    watched = cli.good("watch", batch_id)
    assert watched.out.startswith(f"{batch_id} completed: 50/50 lines, 200 + 200 tokens, cost 0.000") and (
        "\x1b" not in watched.out + watched.err
    )
    written = cli.good("get", batch_id, "--results", "out.jsonl", "--errors", "err.jsonl")
    assert written.out == "" and "50 lines" in written.err
    assert list(said((cli.folder / "out.jsonl").read_text()).items()) == [(f"c{i}", t) for i, t in enumerate(TEXTS)]
    assert (cli.folder / "err.jsonl").read_text() == ""
    assert said(cli.good("get", batch_id, "-o", "-").out) == said((cli.folder / "out.jsonl").read_text())
    shown = cli.good("get", batch_id).out
    assert "completed" in shown and "name=fifty" in shown and "2h" in shown
    (row,) = [row for row in cli.good("ls", "--json", "--all").rows() if row["id"] == batch_id]
    assert row["metadata"] == {"name": "fifty"}
    assert batch_id in cli.good("ls", "-n", "1").out
    files = cli.good("ls", "--files", "--json").rows()
    assert "in.jsonl" in {row["filename"] for row in files}


def test_stdin_is_a_file_and_watching_it_prints_json_lines_and_the_cost_to_the_unit(cli: Commands):
    content = lines(cli.folder / "in.jsonl", TEXTS).read_text()
    done = cli.good("submit", "-", "--watch", "--json", stdin=content)
    rows = [row for row in done.rows() if row["object"] == "batch.progress"]
    last = rows[-1]
    assert (last["status"], last["completed"], last["failed"], last["cost_micros"]) == ("completed", 50, 0, COST)
    assert {row["id"] for row in rows} == {last["id"]} and all(row.keys() == last.keys() for row in rows)
    used = json.loads(cli.good("usage", "--batch", last["id"], "--json").out)
    assert used["total"] == {"requests": 50, "input_tokens": 200, "output_tokens": 200, "cost_micros": COST}
    shown = cli.good("usage", "--lanes", "--minutes", "10").out
    assert re.search(r"^ {2}batch +[1-9]", shown, re.MULTILINE), shown


def test_what_is_submitted_twice_under_a_key_is_one_batch(cli: Commands):
    path = lines(cli.folder / "once.jsonl", TEXTS[:3])
    first = cli.good("submit", str(path), "--idempotency-key", "only-once").out
    assert cli.good("submit", str(path), "--idempotency-key", "only-once").out == first
    named = [row for row in cli.good("ls", "--files", "--all", "--json").rows() if row["filename"].startswith("once.")]
    assert len(named) == 1
    path.write_text(path.read_text().replace("c0", "other"))
    other = cli("submit", str(path), "--idempotency-key", "only-once")
    assert other.code == 1 and "Idempotency-Key" in other.err


def test_a_large_file_goes_up_in_parts_and_its_fault_is_told_with_its_line(cli: Commands):
    path = lines(cli.folder / "large.jsonl", ["word " * 80_000] * 100)
    assert path.stat().st_size > 40_000_000
    with path.open("a") as file:
        file.write("{not json\n")
    done = cli("submit", str(path), "--watch")
    assert done.code == 1 and "failed" in done.out and "line 101: " in done.out, (done.out, done.err)


def test_an_s3_folder_is_read_and_written_to(cli: Commands, stack: Stack):
    s3 = s3_client(Addresses.of(Settings.read(stack.env).environment("test")))
    s3.create_bucket(Bucket=CLI_BUCKET)
    for part in (0, 1):
        content = lines(cli.folder / "part.jsonl", TEXTS[25 * part : 25 * part + 25]).read_text()
        content = content.replace('"custom_id": "c', f'"custom_id": "p{part}-')
        s3.put_object(Bucket=CLI_BUCKET, Key=f"in/{part}.jsonl", Body=content.encode())
    source, target = f"s3://{CLI_BUCKET}/in/", f"s3://{CLI_BUCKET}/out/"
    batch_id = cli.good("submit", source, "--output-uri", target).out.strip()
    cli.good("watch", batch_id)
    found = json.loads(cli.good("get", batch_id, "--json").out)
    assert found["output_file_id"] == f"{target}{batch_id}/output.jsonl"
    assert list(said(cli.good("get", batch_id, "-o", "-").out).values()) == TEXTS
    refused = cli("submit", "s3://elsewhere/in.jsonl", "--json")
    assert refused.code == 1 and json.loads(refused.err)["error"]["code"] == "uri_not_allowed"


def test_a_batch_is_paused_resumed_cancelled_and_what_it_left_is_run_again(cli: Commands):
    batch_id = running(cli, count=LONG)
    assert cli.good("pause", batch_id).out == f"{batch_id} in_progress, paused\n"
    assert "It was paused" in cli.good("get", batch_id).out
    (resumed,) = cli.good("resume", batch_id, "--json").rows()
    assert not resumed["millrace"]["paused"]
    before = counts(cli, batch_id)["completed"]
    partial = said(cli.good("get", batch_id, "-o", "-", "--partial").out)
    assert before <= len(partial) < LONG
    early = cli("get", batch_id, "-o", "-")
    assert early.code == 1 and "partial" in early.err
    assert batch_id in cli.good("ls", "--status", "in_progress").out
    both = cli("cancel", batch_id, "batch_" + "0" * 32)
    assert both.code == 1 and both.out == f"{batch_id} cancelling\n" and "No batch found" in both.err
    ended = cli("watch", batch_id, "--json")
    last = [row for row in ended.rows() if row["object"] == "batch.progress"][-1]
    assert (ended.code, last["status"], last["completed"] + last["failed"]) == (1, "cancelled", LONG)
    none = cli("retry", batch_id, "--only", "expired")
    assert none.code == 1
    retried = cli.good("retry", batch_id, "--only", "cancelled", "--window", "1h").out.strip()
    assert json.loads(cli.good("get", retried, "--json").out)["millrace"]["retry_of"] == batch_id
    eventually(lambda: counts(cli, retried)["total"] == last["failed"], 60, "the lines of the new batch")
    cli.good("cancel", retried)
    assert cli("cancel", retried, "--json").code in (0, 1)


def test_on_a_terminal_it_moves_has_colours_and_says_what_it_says_on_a_pipe(cli: Commands):
    path = lines(cli.folder / "in.jsonl", ["a " * 30] * 120, "slow")
    shown = cli.on_terminal("submit", str(path), "-m", "name=on a terminal", "--watch", columns=90)
    assert shown.code == 0, shown.out
    assert "\x1b[" in shown.out and "━" in shown.out and "on a terminal" in shown.out
    looks = re.findall(r"(\d+)/120 lines", shown.out)
    assert len(set(looks)) >= 3 and looks[-1] == "120", looks
    assert "tokens/s" in shown.out and "done in about" in shown.out and "batch: " in shown.out
    assert "cost 0.0108" in shown.out, shown.out[-500:]
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", shown.out)
    assert max(map(len, plain.replace("\r", "\n").splitlines())) <= 90


def test_chat_answers_whole_on_a_pipe_and_streams_on_a_terminal(cli: Commands):
    assert cli.good("chat", "--model", "echo", "one", "two three").out == "one two three\n"
    assert cli.good("chat", "--model", "echo", "-", stdin="from a pipe\n").out == "from a pipe\n"
    whole = json.loads(cli.good("chat", "--model", "echo", "--max-tokens", "2", "--json", "one two three").out)
    assert whole["usage"]["completion_tokens"] == 2
    chunks = cli.good("chat", "--model", "echo", "--stream", "--json", "one two three").rows()
    assert "".join(c["choices"][0]["delta"].get("content") or "" for c in chunks if c["choices"]) == "one two three"
    assert cli.on_terminal("chat", "--model", "slow", "one", "two", "three").out == "one two three\r\n"
    unknown = cli("chat", "--model", "nope", "x")
    assert unknown.code == 1 and "nope" in unknown.err and not unknown.out
    assert cli("chat", "--model", "nope", "--stream", "--json", "x").code == 1


def test_interrupted_it_says_nothing_more_and_the_batch_goes_on(cli: Commands):
    batch_id = running(cli, count=100)
    watching = cli.start("watch", batch_id, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert watching.stderr is not None
    assert batch_id in watching.stderr.readline()
    watching.send_signal(signal.SIGINT)
    out, err = watching.communicate(timeout=60)
    assert watching.returncode == 130 and not out and "Traceback" not in err
    cli.good("watch", batch_id)


def test_a_reader_who_has_enough_is_no_trouble(cli: Commands):
    for _ in range(3):
        cli.good("submit", str(lines(cli.folder / "in.jsonl", TEXTS[:1])))
    listing = cli.start("ls", "--all", "--json", stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert listing.stdout is not None and listing.stderr is not None
    listing.stdout.readline()
    listing.stdout.close()
    assert b"Traceback" not in listing.stderr.read()
    listing.wait(60)


def test_a_wrong_key_and_no_stack_are_told_apart(stack: Stack, cli: Commands):
    wrong = Commands(stack, "mr-nobody-at-all", cli.folder)("ls")
    assert wrong.code == 1 and "does not know this key" in wrong.err
    nowhere = cli("--url", "http://127.0.0.1:9", "ls")
    assert nowhere.code == 1 and "is the stack up" in nowhere.err
    assert cli("submit").code == 2


def test_the_gateway_may_die_while_it_watches(cli: Commands, stack: Stack):
    batch_id = running(cli, count=150)
    watching = cli.start("watch", batch_id, "--json", stdout=subprocess.PIPE, text=True)
    assert watching.stdout is not None
    watching.stdout.readline()
    stack.kill("gateway")
    out, _ = watching.communicate(timeout=120)
    assert watching.returncode == 0
    assert json.loads([row for row in out.splitlines() if '"batch.progress"' in row][-1])["status"] == "completed"


def test_a_key_is_made_let_in_listed_and_shut_out(stack: Stack, cli: Commands):
    folder = stack.home.parent / "config"
    before = (folder / "all.yaml").read_text()
    key = cli.good("keys", "new", "cli", "laptop", "--config", str(folder)).out.strip()
    mine = Commands(stack, key, cli.folder)
    assert mine("ls").code == 1
    assert "applied configuration" in cli.good("apply", str(folder)).out
    eventually(lambda: mine("ls").code == 0, 30, "the new key to be let in")
    rows = cli.good("keys", "ls", "--tenant", "cli", "--json").rows()
    assert [(row["name"], row["roles"]) for row in rows] == [("k", ["client"]), ("laptop", ["client"])]
    assert key not in json.dumps(rows) and "laptop" in cli.good("keys", "ls").out
    cli.good("keys", "revoke", "cli", "laptop", "--config", str(folder))
    assert (folder / "all.yaml").read_text() == before
    applied = json.loads(cli.good("apply", str(folder), "--json").out)
    assert "cli" in applied["tenants"] and applied["kafka"] == stack.kafka
    eventually(lambda: "does not know this key" in mine("ls").err, 30, "the key to be shut out")
    (cli.folder / "broken").mkdir()
    (cli.folder / "broken" / "a.yaml").write_text("tenants: {x: {keys: 1}}\n")
    broken = cli("apply", "broken")
    assert broken.code == 1 and "a.yaml:1" in broken.err


def test_the_operators_commands_reach_kafka(cli: Commands):
    booked = json.loads(cli.good("credit", "cli-purse", "100", "--reason", "a test", "--json").out)
    assert (booked["booked"], booked["balance_micros"]) == (True, 100)
    assert "the balance is 99" in cli.good("credit", "cli-purse", "-1").out
    nobody = cli("credit", "nobody-at-all", "5", "--json")
    assert nobody.code == 1 and json.loads(nobody.err)["error"]["code"] == "not_booked"
    assert all("reason" in row for row in cli.good("dead-letters", "ls", "--json").rows())
    assert cli("dead-letters", "show", "999999999").code == 1
    assert cli.good("webhooks", "ls", "--json").rows() == []
    again = cli("webhooks", "redeliver", "evt_none")
    assert again.code == 1 and "No event" in again.err
