"""The engine on transformers with a double in the library's place: what it makes of what the manager says."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from schemas.config import Pool
from workers.engines import Final, Job, Piece, Setting, open_engine, transformers_engine
from workers.engines.transformers_engine import GREEDY, Transformers, source
from workers.outcome import Fault

END = 0
Script = Callable[["Manager", str, Callable[[Any], None]], None]


def output(text: str, *, finished: bool = False, error: str | None = None) -> SimpleNamespace:
    """All tokens so far: a letter is a token."""
    tokens = [ord(letter) for letter in text]
    return SimpleNamespace(generated_tokens=tokens, error=error, is_finished=lambda: finished or error is not None)


class Manager:
    """The library's manager, as far as it is used; `script` plays when a request comes."""

    def __init__(self, script: Script) -> None:
        self.script, self.running, self.accepts = script, True, True
        self.asked: dict[str, Any] = {}
        self.cancelled: list[str] = []
        self.background_thread_status = SimpleNamespace(fatal_error=None)
        self.output_router = SimpleNamespace(result_handlers={}, output_queue=asyncio.Queue())

    def is_running(self) -> bool:
        return self.running

    def register_result_handler(self, name: str, callback: Callable[[Any], None]) -> None:
        self.output_router.result_handlers[name] = callback

    def add_request(self, prompt: list[int], name: str, **asked: Any) -> str | None:
        self.asked = {"prompt": prompt, **asked}
        if not self.accepts:
            return None
        self.script(self, name, self.output_router.result_handlers[name])
        return name

    def cancel_request(self, name: str) -> None:
        self.cancelled.append(name)


class Tokenizer:
    """A letter is a token, END is none."""

    chat_template = "t"

    def __len__(self) -> int:
        return 1_000

    def __call__(self, text: str, **_: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) for letter in text]}

    def apply_chat_template(self, messages: list[dict[str, str]], **_: Any) -> str:
        if messages[0]["role"] == "odd":
            raise RuntimeError("no such role")
        return "".join(m["content"] for m in messages) + ">"

    def decode(self, tokens: Sequence[int], **_: Any) -> str:
        return "".join(chr(t) for t in tokens if t != END)


def setting(**pool: Any) -> Setting:
    return Setting("gpu", Pool(engine="transformers", model="smollm2-135m", **pool), 100)


def opened(script: Script) -> tuple[Transformers, Manager]:
    engine, manager = Transformers(setting()), Manager(script)
    engine._manager, engine._model, engine._tokenizer, engine._ends = manager, object(), Tokenizer(), [END]
    return engine, manager


def job(text: str = "ask", endpoint: str = "/v1/chat/completions", limit: int = 0, **body: Any) -> Job:
    asked = {"messages": [{"role": body.pop("role", "user"), "content": text}], "prompt": text, **body}
    return Job("r", endpoint, "m", asked, True, limit, 0)


def run(engine: Transformers, asked: Job) -> list[Piece | Final]:
    async def whole() -> list[Piece | Final]:
        return [part async for part in engine.generate(asked)]

    return asyncio.run(whole())


def at_once(*outputs: SimpleNamespace) -> Script:
    """These one after the other, each in a turn of the event loop of its own."""

    async def play(tell: Callable[[Any], None]) -> None:
        for one in outputs:
            tell(one)
            await asyncio.sleep(0)
            await asyncio.sleep(0)

    tasks = []
    return lambda _manager, _name, tell: tasks.append(asyncio.get_running_loop().create_task(play(tell)))


def shown(parts: list[Piece | Final]) -> tuple[str, str]:
    choices = [p.data["choices"][0] for p in parts if isinstance(p, Piece)]
    return "".join(c.get("delta", {}).get("content") or c.get("text", "") for c in choices), choices[-1][
        "finish_reason"
    ]


def fault(engine: Transformers, asked: Job) -> Fault:
    with pytest.raises(Fault) as caught:
        run(engine, asked)
    return caught.value


@pytest.mark.parametrize("endpoint", ["/v1/chat/completions", "/v1/completions"])
def test_pieces_counts_and_the_end(endpoint: str) -> None:
    engine, manager = opened(at_once(output("he"), output("hell"), output("hello\0", finished=True)))
    parts = run(engine, job(endpoint=endpoint, max_tokens=9, temperature=0))
    assert shown(parts) == ("hello", "stop")
    asked = len("ask>" if "chat" in endpoint else "ask")
    assert isinstance(parts[-1], Final) and parts[-1].counts[:2] == (asked, 6)
    assert parts[-1].body["usage"] == {"prompt_tokens": asked, "completion_tokens": 6, "total_tokens": asked + 6}
    assert {k: manager.asked[k] for k in GREEDY} == GREEDY
    assert (manager.asked["max_new_tokens"], manager.asked["eos_token_id"]) == (9, [END])
    assert not manager.cancelled and not manager.output_router.result_handlers


def test_each_request_brings_its_own_sampling() -> None:
    engine, manager = opened(at_once(output("x", finished=True)))
    assert shown(run(engine, job(temperature=0.5, top_p=0.9)))[1] == "length"
    assert (manager.asked["temperature"], manager.asked["top_p"], manager.asked["top_k"]) == (0.5, 0.9, 1_000)
    assert manager.asked["max_new_tokens"] == engine._context - len("ask>")


def test_a_stop_text_takes_the_request_back() -> None:
    engine, manager = opened(at_once(output("one t"), output("one two three")))
    parts = run(engine, job(stop="two"))
    assert shown(parts) == ("one ", "stop") and parts[-1].counts.output_tokens == len("one two three")
    assert len(manager.cancelled) == 1 and not manager.output_router.result_handlers


def test_whoever_leaves_takes_the_request_back() -> None:
    engine, manager = opened(at_once(output("one")))

    async def leave() -> None:
        parts = engine.generate(job())
        await anext(parts)
        await parts.aclose()  # type: ignore[attr-defined]

    asyncio.run(leave())
    assert len(manager.cancelled) == 1 and not manager.output_router.result_handlers


@pytest.mark.parametrize(
    ("error", "message"),
    [
        ("CUDA out of memory. Tried to allocate 2 GiB", "The engine ran out of memory."),
        ("index 7 is out of bounds", "The engine broke."),
    ],
)
def test_a_request_that_failed_is_the_pools_fault(error: str, message: str) -> None:
    engine, _ = opened(at_once(output("on"), output("one", error=error)))
    refusal, counts = (caught := fault(engine, job())).refusal, caught.counts
    assert (refusal.outcome, refusal.message, counts.output_tokens) == ("unavailable", message, 3)


def test_a_manager_that_dies_or_takes_nothing_is_the_pools_fault(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transformers_engine, "ALIVE_S", 0.01)

    def die(manager: Manager, _name: str, _tell: Callable[[Any], None]) -> None:
        manager.running = False

    engine, _ = opened(die)
    assert fault(engine, job()).refusal.message == "The engine ended."
    engine, manager = opened(die)
    manager.accepts = False
    assert fault(engine, job()).refusal.outcome == "unavailable"


def test_what_does_not_fit_or_cannot_be_read_is_the_callers_fault() -> None:
    engine, manager = opened(at_once())
    cases = [job("x" * 300), job("x" * 30, limit=20), job(role="odd"), job(tools=[{}])]
    codes = [fault(engine, asked).refusal.code for asked in cases]
    assert codes == ["context_length_exceeded", "context_length_exceeded", "invalid_request", "tools_not_supported"]
    assert not manager.asked


def test_weights_precisions_and_a_library_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").touch()
    assert source(str(tmp_path)) == (tmp_path, "")
    assert source("smollm2-135m")[1].endswith(".gguf")
    for bad in (setting(precision="fp4"), Setting("gpu", Pool(engine="transformers", model="/none"), 9)):
        with pytest.raises(Fault):
            open_engine(bad)
    engine = open_engine(setting())
    assert (engine.kind, engine.precision, bool(engine.model_version)) == ("transformers", "bf16", True)

    def missing(name: str) -> Any:
        raise ImportError(name)

    monkeypatch.setattr(transformers_engine.importlib, "import_module", missing)
    with pytest.raises(Fault) as caught:
        asyncio.run(engine.warm())
    assert caught.value.refusal.outcome == "unavailable"
