"""Which model gets a request, who judges and who shadows it, and what it costs: by configuration, changed live."""

import asyncio
import time
import uuid
from collections import Counter, defaultdict

import openai
import pytest
import yaml

from tests.e2e.batches import finished, output, submit
from tests.e2e.configuration import write
from tests.e2e.evidence import records
from tests.e2e.stack import Stack, eventually

REQUESTS, USERS = 10_000, 2_500


def rows_of(stack: Stack, tenant: str, batch_id: str, count: int) -> list[dict]:
    """The usage rows of a batch, all of them."""
    found = lambda: [r for r in records(stack, "usage", {tenant}) if r["batch_id"] == batch_id]  # noqa: E731
    return eventually(lambda: len(r := found()) >= count and r, 60, f"{count} rows of {batch_id}")


def changed(stack: Stack, folder: str, **models: dict) -> None:
    """Apply the configuration with these models instead of those of their names."""
    home = stack.home.parent
    document = yaml.safe_load((home / "config" / "all.yaml").read_text())
    document["models"] |= models
    stack.apply(write(home / folder, document))


def restored(stack: Stack) -> None:
    stack.apply(stack.home.parent / "config")


def say(client: openai.OpenAI, text: str, model: str = "echo", **more):
    return client.chat.completions.create(model=model, messages=[{"role": "user", "content": text}], **more)


def by_user(stack: Stack, count: int, users: int) -> tuple[Counter, dict[str, set[str]], set[str]]:
    """Cohorts of a batch of `count` lines of `users` callers: how many each, those of each caller, and the versions."""
    client = stack.client("splitter")
    names = [f"user-{i % users}" for i in range(count)]
    batch = submit(client, [f"say {i}" for i in range(count)], model="ab", each=[{"user": name} for name in names])
    assert finished(client, batch, 240).request_counts.completed == count
    rows = rows_of(stack, "splitter", batch.id, count)
    sides: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        sides[names[row["line"] - 1]].add(row["cohort"])
    return Counter(row["cohort"] for row in rows), sides, {row["policy_version"] for row in rows}


def test_a_split_of_ten_thousand_is_weighted_sticky_and_changed_live(stack: Stack):
    counts, sides, versions = by_user(stack, REQUESTS, USERS)
    assert set(counts) == {"A", "B"} and abs(counts["B"] / REQUESTS - 0.1) <= 0.01, counts
    assert all(len(cohorts) == 1 for cohorts in sides.values()), "a caller changed sides"
    split = [{"model": "echo", "weight": 50, "cohort": "A"}, {"model": "echo-b", "weight": 50, "cohort": "B"}]
    try:
        changed(stack, "half", ab={"split": split, "sticky": "user"})
        half, new_sides, new_versions = by_user(stack, 2_000, USERS)
    finally:
        restored(stack)
    assert abs(half["B"] / 2_000 - 0.5) < 0.05, half
    assert len(new_versions) == 1 and new_versions != versions, "the version is in every row"
    # The share grew: whoever was on the new side stayed there.
    assert all(new_sides[user] == {"B"} for user, cohorts in sides.items() if cohorts == {"B"} and user in new_sides)


def test_a_change_is_live_within_five_seconds(stack: Stack):
    client = stack.client("splitter", max_retries=0)
    new = f"made-{uuid.uuid4().hex[:6]}"
    with pytest.raises(openai.NotFoundError):
        say(client, "is it there", new)
    try:
        changed(stack, "made", **{new: {"route": ["echo"]}})
        applied = time.monotonic()

        def answered() -> bool:
            try:
                return bool(say(client, f"is it there {uuid.uuid4().hex}", new).id)
            except openai.NotFoundError:
                return False

        eventually(answered, 5, "the new model")
        assert time.monotonic() - applied < 5
    finally:
        restored(stack)


def test_a_canary_that_fails_is_rolled_back_by_itself(stack: Stack):
    client = stack.client("splitter", max_retries=0)

    def answered() -> bool:
        try:
            return say(client, f"at risk {uuid.uuid4().hex}", "risky").choices[0].message.content.startswith("at risk")
        except openai.InternalServerError:
            return False

    assert [answered() for _ in range(30)].count(False), "nothing fell on the candidate"
    eventually(lambda: all(answered() for _ in range(10)), 30, "the candidate to be taken back")
    assert all(answered() for _ in range(30))
    asked = lambda: [r for r in records(stack, "usage", {"splitter"}) if r["requested_model"] == "risky"]  # noqa: E731
    rows = sorted(eventually(lambda: len(r := asked()) >= 70 and r, 30, "their rows"), key=lambda r: r["completed_at"])
    assert {r["cohort"] for r in rows[-30:]} == {"echo"} and {r["cohort"] for r in rows[:30]} == {"echo", "candidate"}
    assert rows[0]["policy_version"] != rows[-1]["policy_version"], "the controller published a version of its own"
    status = stack.run("status")
    assert "risky" in status and "candidate" in status
    restored(stack)


def test_shadow_traffic_is_seen_and_paid_by_nobody(stack: Stack):
    client = stack.client("splitter")
    texts = [f"shadowed {i} {uuid.uuid4().hex}" for i in range(50)]
    batch = finished(client, submit(client, texts, model="shadowed"), 60)
    assert [x["response"]["body"]["choices"][0]["message"]["content"] for x in output(client, batch)] == texts
    assert batch.usage.total_tokens == 50 * 6
    rows = rows_of(stack, "splitter", batch.id, 50)
    assert {(r["model"], r["input_tokens"], r["output_tokens"]) for r in rows} == {("shadowed", 3, 3)}
    ids = {r["request_id"] for r in rows}
    copies = eventually(
        lambda: len(c := [s for s in records(stack, "shadows", {"splitter"}) if s["request_id"] in ids]) == 50 and c,
        60,
        "what the shadow answered",
    )
    assert {(c["model"], c["shadow_model"], c["outcome"]) for c in copies} == {("shadowed", "echo-b", "ok")}
    eventually(lambda: stack.sql("select 1 from shadows limit 1"), 90, "the rows in the lake")


def test_a_guard_model_judges_each_prompt_first(stack: Stack):
    client = stack.client("guarded", max_retries=0)
    # The guard is an echo engine: it says of a prompt what the prompt says.
    assert say(client, "safe").choices[0].message.content == "safe"
    blocked = client.chat.completions.with_raw_response.create(
        model="echo", messages=[{"role": "user", "content": "unsafe\nS1,S4"}]
    )
    assert blocked.parse().model == "from-security-guard" and blocked.parse().choices[0].message.content == "Judged."
    request_id = blocked.headers["x-request-id"]
    found = eventually(
        lambda: {a["rule"] for a in records(stack, "audit", {"guarded"}) if a["request_id"] == request_id},
        30,
        "the audit rows",
    )
    assert found == {"guard/judge/S1", "guard/judge/S4"}
    with pytest.raises(openai.InternalServerError) as unclear:
        say(client, "who knows")
    assert unclear.value.body["code"] == "moderation_unavailable"


def test_a_prepaid_tenant_spends_what_was_credited(stack: Stack):
    client = stack.client("prepaid", max_retries=0)
    with pytest.raises(openai.RateLimitError) as empty:
        say(client, "nothing is there yet", max_tokens=4)
    assert empty.value.body["code"] == "insufficient_quota"
    book = ("exec", "--", "python", "-m", "ingest.credit")
    booked = stack.run(*book, "prepaid", "100", "--id", "first", "--reason", "for the test")
    assert "the balance is 100" in booked

    async def storm() -> list[int]:
        async def call(i: int) -> int:
            try:
                await many.chat.completions.create(
                    model="echo", messages=[{"role": "user", "content": f"spend {i} {uuid.uuid4().hex}"}], max_tokens=3
                )
            except openai.RateLimitError:
                return 429
            return 200

        async with stack.async_client("prepaid", timeout=60) as many:
            return await asyncio.gather(*(call(i) for i in range(100)))

    statuses = asyncio.run(storm())  # 3 + 2 * 3 micros each
    assert statuses.count(200) == 100 // 9
    again = stack.run(*book, "prepaid", "-1", "--id", "second")
    assert "the balance is 0" in again, "99 were spent of 100, nothing is held"
    rows = eventually(
        lambda: {r["entry_id"]: r["amount_micros"] for r in records(stack, "credits", {"prepaid"})}, 30, "the entries"
    )
    assert rows == {"first": 100, "second": -1}
    unknown = stack.command(*book, "nobody", "5")
    assert unknown.returncode == 1 and "no tenant" in unknown.stderr
