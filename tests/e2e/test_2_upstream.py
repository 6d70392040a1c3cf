"""Pools on servers of others: one that dies under load, and one that repeats the key it was called with."""

import asyncio
import json
import uuid

import httpx
import openai

from tests.e2e.batches import finished, output, submit
from tests.e2e.evidence import records
from tests.e2e.producing import intake, produce
from tests.e2e.stack import Stack, eventually
from tests.e2e.upstream import TELLTALE, Upstream

WORDS = 30


def text() -> str:
    return " ".join([uuid.uuid4().hex, *["word"] * (WORDS - 1)])


async def whole(client: openai.AsyncOpenAI, said: str) -> tuple[str, str]:
    """(request id, answer)."""
    answer = await client.chat.completions.create(model="relayed", messages=[{"role": "user", "content": said}])
    return answer.id.removeprefix("chatcmpl-"), answer.choices[0].message.content or ""


async def streamed(client: openai.AsyncOpenAI, said: str, seen: list[str]) -> tuple[str, bool]:
    """(request id, whether it ended with an error); `seen` gets the pieces as they come."""
    raw = await client.chat.completions.with_raw_response.create(
        model="relayed", messages=[{"role": "user", "content": said}], stream=True
    )
    try:
        async for chunk in raw.parse():
            if chunk.choices and chunk.choices[0].delta.content:
                seen.append(chunk.choices[0].delta.content)
    except openai.APIError:
        return raw.headers["x-request-id"], True
    return raw.headers["x-request-id"], False


def test_a_pool_that_dies_under_load_is_followed_by_the_next_one(stack: Stack, mortal: Upstream):
    async def storm() -> None:
        async with stack.async_client("relayed", timeout=60, max_retries=0) as client:
            said = [text() for _ in range(30)]
            wholes = [asyncio.create_task(whole(client, s)) for s in said]
            asked, pieces = [text() for _ in range(30)], [[] for _ in range(30)]
            streams = [asyncio.create_task(streamed(client, *x)) for x in zip(asked, pieces, strict=True)]
            async with asyncio.timeout(30):
                while mortal.counts()["running"] < 60 or not any(pieces):
                    await asyncio.sleep(0.01)
            shown = sum(map(bool, pieces))
            mortal.kill()
            said += (more := [text() for _ in range(20)])
            wholes += [asyncio.create_task(whole(client, s)) for s in more]
            answers, ends = await asyncio.gather(*wholes), await asyncio.gather(*streams)
        judge(stack, said, answers, list(zip(asked, pieces, ends, strict=True)), shown)

    asyncio.run(storm())


def judge(stack: Stack, said: list[str], answers: list[tuple[str, str]], streams: list, shown: int) -> None:
    """Each call has its own words from the next pool, unless the first had shown some of them; and one row."""
    assert [answer for _, answer in answers] == said
    number = len(answers) + len(streams)
    rows = eventually(
        lambda: (r := records(stack, "usage", {"relayed"})) and len(r) >= number and r, 30, "a row for each call"
    )
    assert len(rows) == number
    row = {r["request_id"]: r for r in rows}
    for request_id, _ in answers:
        assert (row[request_id]["status"], row[request_id]["pool"]) == ("completed", "after")
    broken = 0
    for asked, pieces, (request_id, failed) in streams:
        ended = row[request_id]["status"], row[request_id]["pool"]
        if failed:
            broken += 1
            assert ended == ("interrupted", "mortal")
            assert pieces and asked.startswith("".join(pieces)), "words of two pools were mixed"
        else:
            assert ended == ("completed", "after") and "".join(pieces) == asked
    assert broken >= shown > 0


CASES = ("leak", "400", "401", "404", "429", "500", "503", "302", "page", "cut", "plain")


def test_the_key_of_an_upstream_is_in_no_answer(stack: Stack, telltale: Upstream):
    before = telltale.counts()["told"]
    found: dict[tuple[str, bool], str] = {}
    with httpx.Client(base_url=stack.url, headers={"authorization": "Bearer mr-leaky"}, timeout=60) as client:
        for case in CASES:
            for stream in (False, True):
                body = {"model": "leaky", "messages": [{"role": "user", "content": f"{case} {uuid.uuid4().hex}"}]}
                response = client.post("/chat/completions", json={**body, "stream": stream})
                found[case, stream] = f"{response.status_code} {response.headers} {response.text}"
    assert telltale.counts()["told"] >= before + len(found), "the upstream was not asked with its key"
    assert [case for case, said in found.items() if stack.key in said] == []
    assert TELLTALE in found["leak", False] and TELLTALE in found["400", False]
    lines = [json.loads(line[6:]) for line in found["leak", True].splitlines() if line.startswith('data: {"')]
    shown = "".join(c["choices"][0]["delta"].get("content") or "" for c in lines if c.get("choices"))
    assert shown.startswith(TELLTALE) and shown.endswith("again") and stack.key not in shown


def test_nor_in_the_files_of_a_batch(stack: Stack):
    client = stack.client("leaky")
    batch = finished(client, submit(client, [f"{case} line" for case in CASES], model="leaky"), 120)
    produce(stack, "leaky", *[intake(stack, "leaky", model="leaky", messages=[said(case)]) for case in CASES])
    assert batch.status == "completed" and batch.request_counts.total == len(CASES)
    text = json.dumps([output(client, batch), output(client, batch, "error_file_id")])
    assert TELLTALE in text and stack.key not in text
    eventually(
        lambda: sum(r["lane"] == "standard" for r in records(stack, "usage", {"leaky"})) == len(CASES),
        60,
        "the rows of the records",
    )


def said(case: str) -> dict[str, str]:
    return {"role": "user", "content": f"{case} record"}
