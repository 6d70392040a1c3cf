"""The engine for embeddings from a table: a text's vector is the mean of its tokens' vectors, at length 1.

The table was trained for that (WordLlama, after Model2Vec): a few microseconds a text on a CPU, quality between word
vectors and a small transformer. Its leading dimensions were trained to serve alone.
"""

from __future__ import annotations

import asyncio
import base64
import importlib.util
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, NamedTuple
from typing import Final as Constant

import numpy as np
import numpy.typing as npt

from schemas.config import Pool
from workers.engines import EMBEDDINGS, Final, Job, Piece
from workers.outcome import Counts, Fault, Refusal, error_body, unavailable

Vectors = npt.NDArray[np.float32]


class Package(NamedTuple):
    """A table that comes as a package: its files, and how many leading dimensions serve alone."""

    name: str
    weights: str
    tensor: str
    tokenizer: str
    dimensions: tuple[int, ...]
    precision: str


PACKAGED: Constant = {
    "wordllama-256": Package(
        "wordllama",
        "weights/l2_supercat_256.safetensors",
        "embedding.weight",
        "tokenizers/l2_supercat_tokenizer_config.json",
        (64, 128, 256),
        "f16",
    )
}
# As OpenAI's: texts in one request. Their vectors as text are 6 MB, within what a record may hold.
MOST_INPUTS: Constant = 2_048
# Digits after the point: a vector has length 1 and was computed in 24 bits.
DIGITS: Constant = 7


class Table:
    """A loaded model. Its methods compute, so they are called in a thread."""

    def __init__(self, package: Package, folder: Path) -> None:
        from safetensors.numpy import load_file
        from tokenizers import Tokenizer

        # One request uses one core: others wait for the rest.
        os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
        self._rows: Vectors = load_file(folder / package.weights)[package.tensor].astype(np.float32)
        self._tokenizer = Tokenizer.from_file(str(folder / package.tokenizer))

    def tokens(self, texts: list[str]) -> list[list[int]]:
        """Token ids of each text; at least one, as no text is empty."""
        found = self._tokenizer.encode_batch(texts, add_special_tokens=False)
        return [encoding.ids for encoding in found]

    def vectors(self, tokens: list[list[int]], dimensions: int) -> Vectors:
        """Of shape (texts, dimensions), each of length 1."""
        means = np.stack([self._rows[ids, :dimensions].mean(axis=0) for ids in tokens])
        lengths = np.linalg.norm(means, axis=1, keepdims=True)
        return np.asarray(means / np.where(lengths > 0, lengths, 1), dtype=np.float32)


class Static:
    """The engine of one pool; loads at `warm` or at the first job."""

    kind = "static"
    secret = ""

    def __init__(self, pool: Pool) -> None:
        package = PACKAGED.get(pool.model)
        if package is None:
            raise unavailable(f"There is no table called {pool.model!r}.")
        # Not imported: a toolkit around the files is not needed for them.
        spec = importlib.util.find_spec(package.name)
        if spec is None or spec.origin is None:
            raise unavailable(f"The weights of {pool.model} are not installed: package {package.name}.")
        self._package, self._folder = package, Path(spec.origin).parent
        self.model_version = Path(package.weights).stem
        self.precision = pool.precision or package.precision
        self._loading = asyncio.Lock()
        self._table: Table | None = None

    async def warm(self) -> None:
        """Load the table, in a thread."""
        await self._loaded()

    async def _loaded(self) -> Table:
        async with self._loading:
            if self._table is None:
                try:
                    self._table = await asyncio.to_thread(Table, self._package, self._folder)
                except Exception as error:  # what the libraries raise for a broken file has no common kind
                    raise unavailable(f"{self.model_version} cannot be loaded: {error}") from error
            return self._table

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """The whole answer. Raises Fault."""
        if job.endpoint != EMBEDDINGS:
            raise _refused(f"This model does not serve {job.endpoint}.", None, "endpoint_not_supported")
        texts, dimensions, form = _asked(job.body, self._package.dimensions)
        table = await self._loaded()
        tokens = await asyncio.to_thread(table.tokens, texts)
        most = max(map(len, tokens))
        if job.max_input_tokens and most > job.max_input_tokens:
            what = f"An input has {most} tokens; this model takes {job.max_input_tokens}."
            raise _refused(what, "input", "context_length_exceeded")
        data = await asyncio.to_thread(lambda: _data(table.vectors(tokens, dimensions), form))
        # A prefix that the tokenizer puts before a text is its own affair: no text has more tokens than bytes.
        count = sum(min(len(ids), len(text.encode())) for ids, text in zip(tokens, texts, strict=True))
        usage = {"prompt_tokens": count, "total_tokens": count}
        yield Final({"object": "list", "data": data, "usage": usage}, Counts(count))

    async def close(self) -> None:
        """Let go of the table."""
        self._table = None


def _asked(body: dict[str, Any], served: tuple[int, ...]) -> tuple[list[str], int, str]:
    """(texts, dimensions, encoding format) of a request. Raises Fault."""
    given = body.get("input")
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts:
        raise _refused("`input` must be a string or a list of strings, not empty.", "input")
    if len(texts) > MOST_INPUTS:
        raise _refused(f"`input` has {len(texts)} texts; at most {MOST_INPUTS} are taken at once.", "input")
    for i, text in enumerate(texts):
        where = "input" if isinstance(given, str) else f"input[{i}]"
        if isinstance(text, int | list):
            raise _refused("This model reads texts, no arrays of tokens.", where, "input_not_supported")
        if not isinstance(text, str) or not text:
            raise _refused(f"`{where}` must be a string, not empty.", where)
    dimensions = body.get("dimensions")
    if dimensions is not None and (type(dimensions) is not int or dimensions not in served):
        raise _refused(f"`dimensions` must be one of {', '.join(map(str, served))}.", "dimensions")
    form = body.get("encoding_format") or "float"
    if form not in ("float", "base64"):
        raise _refused("`encoding_format` must be `float` or `base64`.", "encoding_format")
    return texts, dimensions or served[-1], form


def _data(vectors: Vectors, form: str) -> list[dict[str, Any]]:
    """One entry for each text; base64 is of little-endian 32-bit floats."""
    values: list[Any]
    if form == "base64":
        values = [base64.b64encode(vector.astype("<f4").tobytes()).decode() for vector in vectors]
    else:
        values = np.round(vectors.astype(np.float64), DIGITS).tolist()
    return [{"object": "embedding", "index": i, "embedding": value} for i, value in enumerate(values)]


def _refused(message: str, param: str | None, code: str = "invalid_request") -> Fault:
    body = error_body(message, "invalid_request_error", code, param)
    return Fault(Refusal("invalid", 400, message, code, body))
