"""The engine on Hugging Face transformers, in this process: its own continuous batching, where no server is.

The library's manager runs in a thread of its own with paged attention; each job is a request of it, which hands over
all tokens so far at every step. After an error that ends the manager (no memory, say) the next job starts another.
Needs requirements-gpu.lock. Runs on a CPU too, for tests.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import uuid
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing
from pathlib import Path
from typing import Any
from typing import Final as Constant

from workers.engines import CHAT, Final, Job, Piece, Setting
from workers.engines.detokenizer import Detokenizer
from workers.engines.generation import CHATML, too_long
from workers.engines.llama import PACKAGED, TEMPLATE_TOKENS, plain_message, threads, weights
from workers.engines.sampling import Sampling, sampling_of
from workers.outcome import NO_TOKENS, Counts, Fault, invalid, unavailable

log = logging.getLogger(__name__)

PRECISIONS: Constant = ("bf16", "int8", "f32")
# Tokens of one block of the library's cache; its name in the settings changes between versions, its default does not.
BLOCK_TOKENS: Constant = 256
# A CPU reads prompts this many tokens at a time; on a GPU the library decides by its memory.
CPU_BATCH_TOKENS: Constant = 256
# A greedy choice as the library's filters know it: the best token, and one of them where several are best.
GREEDY: Constant = {"temperature": 1.0, "top_k": 1, "top_p": 1e-6}
# The library makes a filter only where its default would change something; each request brings its own values.
FILTERS: Constant = {"do_sample": True, "temperature": 0.5, "top_k": 50, "top_p": 0.5}
# Between looks at whether the manager still lives.
ALIVE_S: Constant = 1.0
STOP_S: Constant = 10.0
TRIES: Constant = 2


def source(model: str) -> tuple[Path, str]:
    """(folder, GGUF file in it, or "" for a folder of transformers' own format). Raises Fault."""
    path = Path(model)
    if model not in PACKAGED and path.is_dir() and (path / "config.json").is_file():
        return path, ""
    found, _ = weights(model)
    return found.parent, found.name


class Transformers:
    """The engine of one pool; loads at `warm` or at the first job."""

    kind = "transformers"
    secret = ""

    def __init__(self, setting: Setting) -> None:
        self._folder, self._file = source(setting.pool.model)
        self.precision = setting.pool.precision or "bf16"
        if self.precision not in PRECISIONS:
            raise unavailable(f"This engine has no precision {self.precision!r}: {', '.join(PRECISIONS)}.")
        self._slots = setting.pool.concurrency
        self._context = setting.context_tokens + TEMPLATE_TOKENS
        self._packaged = setting.pool.model in PACKAGED
        self.model_version = Path(self._file).stem or self._folder.name
        self._loading = asyncio.Lock()
        self._model: Any = None
        self._tokenizer: Any = None
        self._manager: Any = None
        self._ends: list[int] = []

    async def warm(self) -> None:
        """Load the weights and start the manager, in a thread; start another where it has ended."""
        async with self._loading:
            if self._manager is not None and _alive(self._manager):
                return
            try:
                await asyncio.to_thread(self._start)
            except (RuntimeError, ValueError, ImportError, OSError) as error:
                raise unavailable(f"{self.model_version} cannot be served: {error}") from error

    def _start(self) -> None:
        if self._manager is not None:
            log.error("%s: its batching ended; starting it anew", self.model_version)
            self._stop()
        if self._model is None:
            self._load()
        transformers = importlib.import_module("transformers")
        generation = importlib.import_module("transformers.generation")
        limits: dict[str, Any] = {"max_requests_per_batch": self._slots}
        if self._model.device.type == "cpu":
            blocks = -(-self._context // BLOCK_TOKENS) + 1
            limits |= {"num_blocks": blocks * self._slots, "max_batch_tokens": CPU_BATCH_TOKENS}
        self._manager = self._model.init_continuous_batching(
            generation_config=transformers.GenerationConfig(**FILTERS, eos_token_id=self._ends),
            continuous_batching_config=generation.ContinuousBatchingConfig(per_request_processors=True, **limits),
        )
        self._manager.start()

    def _load(self) -> None:
        torch, transformers = importlib.import_module("torch"), importlib.import_module("transformers")
        device = "cuda" if torch.cuda.is_available() else "cpu"
        if device == "cpu":
            torch.set_num_threads(threads())
        where: dict[str, Any] = {"local_files_only": True} | ({"gguf_file": self._file} if self._file else {})
        tokenizer = transformers.AutoTokenizer.from_pretrained(str(self._folder), **where)
        dtype = torch.float32 if self.precision == "f32" else torch.bfloat16
        model = transformers.AutoModelForCausalLM.from_pretrained(str(self._folder), dtype=dtype, **where).to(device)
        if self.precision == "int8":
            quantization = importlib.import_module("torchao.quantization")
            quantization.quantize_(model, quantization.Int8WeightOnlyConfig())
        if self._packaged:
            tokenizer.chat_template = CHATML
        most = getattr(model.config.get_text_config(), "max_position_embeddings", None) or self._context
        self._context = min(self._context, most)
        ends = model.generation_config.eos_token_id
        ends = [ends] if isinstance(ends, int) else list(ends or ())
        self._ends = ends or [tokenizer.eos_token_id if tokenizer.eos_token_id is not None else -1]
        self._model, self._tokenizer = model, tokenizer
        log.info("loaded %s as %s on %s", self.model_version, self.precision, device)

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """A piece for each step that shows something, then the end. Raises Fault."""
        asked = sampling_of(job)
        await self.warm()
        prompt = await asyncio.to_thread(self._tokens, job)
        if job.max_input_tokens and len(prompt) > job.max_input_tokens:
            raise too_long(len(prompt), job.max_input_tokens)
        room = self._context - len(prompt)
        if room <= 0:
            raise too_long(len(prompt), self._context - 1)
        most, text = min(asked.max_tokens or room, room), self._detokenizer(asked)
        counts, seen, tokens = NO_TOKENS, 0, [0]
        async with aclosing(self._steps(prompt, most, asked)) as steps:
            async for tokens in steps:
                counts = Counts(len(prompt), len(tokens))
                shown, seen = text.feed(tokens[seen:]), len(tokens)
                if shown:
                    yield Piece({"choices": [_choice(job, shown)]}, counts)
                if text.stopped:
                    break
        if rest := text.finish():
            yield Piece({"choices": [_choice(job, rest)]}, counts)
        reason = "stop" if text.stopped or tokens[-1] in self._ends else "length"
        yield Piece({"choices": [{**_choice(job, ""), "finish_reason": reason}]}, counts)
        total = {"prompt_tokens": counts.input_tokens, "completion_tokens": counts.output_tokens}
        usage = {**total, "total_tokens": sum(total.values())}
        yield Final({"usage": usage, "system_fingerprint": self.model_version}, counts)

    async def _steps(self, prompt: list[int], most: int, asked: Sampling) -> AsyncGenerator[list[int], None]:
        """All tokens so far, at every step. Ending it takes the request back. Raises Fault."""
        name, tokens, finished = uuid.uuid4().hex, list[int](), False
        outputs: asyncio.Queue[Any] = asyncio.Queue()
        manager = await self._add(name, outputs, prompt, most, asked)
        try:
            while not finished:
                try:
                    output = await asyncio.wait_for(outputs.get(), ALIVE_S)
                except TimeoutError:
                    if not _alive(manager):
                        raise unavailable("The engine ended.", Counts(len(prompt), len(tokens))) from None
                    continue
                while not outputs.empty():
                    output = outputs.get_nowait()
                finished, tokens = output.is_finished(), output.generated_tokens or tokens
                if output.error is not None:
                    raise _fault(output.error, Counts(len(prompt), len(tokens)))
                yield tokens
        finally:
            if not finished:
                manager.cancel_request(name)
            self._forget(manager, name)

    async def _add(self, name: str, outputs: asyncio.Queue[Any], prompt: list[int], most: int, asked: Sampling) -> Any:
        """The manager that took the request. One that is about to end refuses; then another is started."""
        for _ in range(TRIES):
            await self.warm()
            manager, limits = self._manager, {"max_new_tokens": most, "eos_token_id": self._ends}
            manager.register_result_handler(name, outputs.put_nowait)
            if manager.add_request(prompt, name, streaming=True, **limits, **self._filters(asked)) is not None:
                return manager
            self._forget(manager, name)
        raise unavailable("The engine takes no requests.")

    def _forget(self, manager: Any, name: str) -> None:
        """What was on its way when a request was taken back lies in a queue of the library that nobody else reads."""
        router = manager.output_router
        router.result_handlers.pop(name, None)
        while not router.output_queue.empty():
            router.output_queue.get_nowait()

    def _filters(self, asked: Sampling) -> dict[str, Any]:
        if not asked.temperature:
            return dict(GREEDY)
        size = len(self._tokenizer)
        top_k = min(asked.top_k, size) if asked.top_k else size
        return {"temperature": asked.temperature, "top_p": asked.top_p, "top_k": top_k}

    def _tokens(self, job: Job) -> list[int]:
        if job.endpoint != CHAT:
            prompt = job.body.get("prompt")
            if not isinstance(prompt, str):
                raise invalid("`prompt` must be a string.", "invalid_request")
            return list(self._tokenizer(prompt)["input_ids"])
        if not self._tokenizer.chat_template:
            raise invalid("This model has no template for chats.", "endpoint_not_supported")
        messages = [plain_message(m) for m in job.body.get("messages") or ()]
        try:
            text = self._tokenizer.apply_chat_template(messages, add_generation_prompt=True, tokenize=False)
        except Exception as error:  # A template refuses by raising whatever its author chose.
            raise invalid(f"The model's template refuses these messages: {error}", "invalid_request") from None
        return list(self._tokenizer(text, add_special_tokens=False)["input_ids"])

    def _detokenizer(self, asked: Sampling) -> Detokenizer:
        def decode(tokens: Any) -> str:
            return str(self._tokenizer.decode(tokens, skip_special_tokens=True, clean_up_tokenization_spaces=False))

        return Detokenizer(decode, asked.stops)

    async def close(self) -> None:
        """Stop the manager; its running requests fail. Then free the model."""
        async with self._loading:
            if self._manager is not None:
                await asyncio.to_thread(self._stop)
            self._model = self._tokenizer = None

    def _stop(self) -> None:
        manager, self._manager = self._manager, None
        manager.stop(block=True, timeout=STOP_S, hard_stop=True)


def _alive(manager: Any) -> bool:
    return bool(manager.is_running()) and manager.background_thread_status.fatal_error is None


def _choice(job: Job, text: str) -> dict[str, Any]:
    if job.endpoint == CHAT:
        return {"index": 0, "delta": {"content": text} if text else {}, "finish_reason": None}
    return {"index": 0, "text": text, "finish_reason": None}


def _fault(error: str, counts: Counts) -> Fault:
    """A failed request of the manager: no memory, or a fault of the model. Another pool may do better."""
    log.error("transformers: %s", error)
    reason = "ran out of memory" if "out of memory" in error.lower() else "broke"
    return unavailable(f"The engine {reason}.", counts)
