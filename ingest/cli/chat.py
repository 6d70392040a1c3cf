"""millrace chat: one question, one answer; as it comes, on a terminal."""

from __future__ import annotations

import sys
import uuid
from collections.abc import Iterator
from typing import Annotated, Any

import httpx
import orjson
import typer

from ingest.cli import terminal
from ingest.cli.client import Client
from ingest.cli.fault import Fault
from ingest.cli.session import session
from ingest.cli.terminal import Json

# A real model on a busy machine takes its time for an answer; the gateway has the last word.
READ_S = 600.0


def add_to(app: typer.Typer) -> None:
    """Add the command."""
    app.command()(chat)


def chat(
    ctx: typer.Context,
    prompt: Annotated[list[str], typer.Argument(metavar="PROMPT...", help="The question; - reads stdin.")],
    model: Annotated[str, typer.Option("--model", help="A model, or an alias.")] = "default",
    system: Annotated[str, typer.Option(help="Instructions that go before the question.")] = "",
    max_tokens: Annotated[int | None, typer.Option(min=1, help="The longest answer.")] = None,
    temperature: Annotated[float | None, typer.Option(min=0.0, help="0 for the likeliest answer.")] = None,
    flex: Annotated[bool, typer.Option("--flex", help="In the batch lane: it may take longer.")] = False,
    idempotency_key: Annotated[str, typer.Option(help="Asking again under the same key gives the same answer.")] = "",
    stream: Annotated[
        bool | None, typer.Option("--stream/--no-stream", help="As it comes. (default: on a terminal)")
    ] = None,
    json: Json = False,
) -> None:
    """Ask a model (--json: the API's answer; with --stream its chunks, one a line)."""
    messages = [{"role": "system", "content": system}] if system else []
    messages.append({"role": "user", "content": question(prompt)})
    more = {"max_tokens": max_tokens, "temperature": temperature, "service_tier": "flex" if flex else None}
    body: dict[str, Any] = {"model": model, "messages": messages}
    body |= {name: value for name, value in more.items() if value is not None}
    as_json = session(ctx).json
    client = session(ctx).client()
    if stream if stream is not None else sys.stdout.isatty() and not as_json:
        _stream(client, body, idempotency_key, as_json=as_json)
        return
    answer = client.post("/chat/completions", body, key=idempotency_key or str(uuid.uuid4()), timeout=READ_S)
    terminal.show(ctx, answer, lambda: str(answer["choices"][0]["message"]["content"] or ""))


def question(words: list[str]) -> str:
    """The text of the arguments, or of stdin for a single `-`. Raises typer.BadParameter."""
    text = sys.stdin.read().removesuffix("\n") if words == ["-"] else " ".join(words)
    if not text.strip():
        raise typer.BadParameter("there is no question", param_hint="PROMPT")
    return text


def _stream(client: Client, body: dict[str, Any], key: str, *, as_json: bool) -> None:
    headers = {"idempotency-key": key} if key else {}
    asked = {**body, "stream": True, "stream_options": {"include_usage": True}}
    with client.stream("POST", "/chat/completions", json=asked, headers=headers, timeout=READ_S) as response:
        for chunk in chunks(response):
            if as_json:
                terminal.line(chunk)
            elif chunk["choices"]:
                print(chunk["choices"][0]["delta"].get("content") or "", end="", flush=True)
    if not as_json:
        print(flush=True)


def chunks(response: httpx.Response) -> Iterator[Any]:
    """The chunks of a streamed answer. Raises Fault if it ends with an error, or without its end."""
    for row in response.iter_lines():
        if not row.startswith("data:"):
            continue
        data = row.removeprefix("data:").strip()
        if data == "[DONE]":
            return
        chunk = orjson.loads(data)
        if error := chunk.get("error"):
            raise Fault(f"the answer was interrupted: {error['message']}", code=str(error.get("code")))
        yield chunk
    raise Fault("the answer broke off before its end", code="interrupted")
