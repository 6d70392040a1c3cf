"""Whether a batch is taken in: what is known not to fit is refused when it is created, with the reason and what would.

Nothing is refused on a guess. What a limit counts is known by the input's bytes; the window is judged only by what the
pools were measured to do; a balance only by the bound of the first line, which must fit for anything to run.
"""

from __future__ import annotations

import math
from functools import partial
from typing import Final, NamedTuple

import msgspec

from ingest import (
    batch_cost,
    batch_line,
    batch_retry,
    capacity,
    enqueued,
    enqueued_store,
    envelope,
    input_lines,
    input_source,
    places,
)
from ingest.batch_document import Document, Kind
from ingest.batch_line import Line
from ingest.batch_models import Models
from ingest.capacity import Promise, Report
from ingest.enqueued import Entry, Full
from ingest.receiving import blocking
from ingest.services import Services
from ingest.storage import Denied, Missing, NoBucket, Storage
from schemas.config import Principal
from streams import body as bodies
from streams.body import BodyError

ETA_HEADER: Final = "x-millrace-estimated-completion-at"
NO_RETRY: Final = {"x-should-retry": "false"}


class Load(NamedTuple):
    """What a batch will ask for, as far as it is known when it is created.

    `tokens` is what it counts of an enqueued quota, `said` about the tokens of its texts; `lines` and `model` may be
    unknown (None, empty). `first` is its first line, if that is good.
    """

    tokens: int
    said: int
    lines: int | None
    model: str
    first: Line | None = None


class Window(NamedTuple):
    """The batch's id, when it was asked for, and until when it wants to be done (ms)."""

    batch_id: str
    created_ms: int
    deadline_ms: int


def load_of_input(storage: Storage, tenant: str, name: str, size: int, lines: int | None) -> Load:
    """The load of an input of `size` bytes, seen by its first line. Blocking. Raises StorageError."""
    tokens = enqueued.tokens_of(size)
    raw = _first_line(storage, tenant, name)
    line = batch_line.parse(raw)
    if not isinstance(line, Line):
        return Load(tokens, tokens, lines, "")
    return Load(tokens, int(tokens * _text_share(line, len(raw))), lines, line.model, line)


def load_of_retry(old: Document, only: tuple[Kind, ...]) -> Load:
    """The load of those lines of an ended batch: their part of what all of them counted."""
    total, lines = old.batch.request_counts.total, batch_retry.lines(old, only)
    share = (lines or 0) / total if lines is not None and total else 1.0
    tokens = math.ceil(old.private.enqueued * share)
    return Load(tokens, tokens, lines, old.batch.model or "")


def _first_line(storage: Storage, tenant: str, name: str) -> bytes:
    """The first line, empty if there is none, or none that may be read: validation will say so."""
    try:
        source = input_source.find(storage, tenant, name)
        blocks = source.blocks(0, min(source.size, batch_line.MAX_LINE_BYTES + 1))
        return next(input_lines.split(blocks), b"")
    except (Missing, NoBucket, Denied):
        return b""


def _text_share(line: Line, size: int) -> float:
    """Which part of a line's bytes a model reads."""
    try:
        said = bodies.texts(bodies.parse(line.body))
    except BodyError:
        return 1.0
    return min(1.0, sum(len(text.encode("utf-8", "replace")) for text in said) / size)


async def accept(services: Services, principal: Principal, load: Load, window: Window) -> int | None:
    """Take a batch in, which then counts against its tenant's limits; when it will be done at the latest by what was
    measured (ms), None where nothing was.

    Raises ApiError: 400 for what will never fit, 429 for what does not fit now, 503.
    """
    models = Models(services.config())
    storage = Storage(services.s3, services.addresses.bucket)
    promise = None
    if load.lines and load.model:
        promise = _promise(await blocking(_reports, storage), models, principal.tenant, load, window)
        if promise is not None and capacity.impossible(promise, window.deadline_ms, window.created_ms):
            raise too_short(promise, window)
    await _afford(services, models, principal.tenant, load)
    limits = models.at_create(principal.tenant, principal.name)
    if limits:
        entry = Entry(load.tokens, principal.name, load.model, window.created_ms)
        reserve = partial(enqueued_store.reserve, storage, principal.tenant, window.batch_id, entry, limits)
        full = await blocking(reserve, models.real, window.created_ms)
        if full is not None:
            raise does_not_fit(full, load)
    return None if promise is None else promise.safe_ms


async def _afford(services: Services, models: Models, tenant: str, load: Load) -> None:
    """Raises ApiError (429) where a prepaid balance does not cover the first line: then nothing would ever run."""
    if load.first is None or services.enquiries is None or not models.prepaid(tenant):
        return
    least = batch_cost.least_micros(load.first, models)
    account = await services.enquiries.account(tenant) if least else None
    if account is not None and account.left_micros < least:
        message = (
            f"The prepaid balance has {account.left_micros} micro-units left; the first line of this batch may cost "
            f"{least}."
        )
        raise envelope.ApiError(429, message, code="insufficient_quota", type="rate_limit_error", headers=NO_RETRY)


def _promise(reports: list[Report], models: Models, tenant: str, load: Load, window: Window) -> Promise | None:
    model = models.real(load.model)
    measure = capacity.together(reports, model, models.fingerprint(model), window.created_ms)
    if measure is None or load.lines is None:
        return None
    queues = [queue for report in reports for queue in report.queues.get(model, ())]
    return capacity.promise(measure, queues, tenant, window.deadline_ms, load.lines, load.said, window.created_ms)


def _reports(storage: Storage) -> list[Report]:
    """What the batchers reported. Blocking. Raises StorageError."""
    found = []
    for key in storage.keys(places.CAPACITY):
        try:
            found.append(msgspec.json.decode(storage.get(key).body, type=Report))
        except (Missing, msgspec.DecodeError):
            continue
    return found


def too_short(promise: Promise, window: Window) -> envelope.ApiError:
    """400: the pools cannot do it in this window. Says in which they could."""
    eta_s = -(-promise.safe_ms // 1000)
    need_s = -(-(promise.safe_ms - window.created_ms) // 1000)
    message = (
        f"At the measured capacity of its model's pools this batch would be done in {need_s} s, at {eta_s} (Unix "
        f"seconds): a completion_window of {need_s}s or more would be accepted."
    )
    return envelope.ApiError(
        400, message, code="window_too_short", param="completion_window", headers={ETA_HEADER: str(eta_s)}
    )


def does_not_fit(full: Full, load: Load) -> envelope.ApiError:
    """429, or 400 where it is more than the whole limit: then trying again never helps."""
    limit, what = full.limit, full.limit.on.replace("_", " ")
    of_model = f" of model {limit.model}" if limit.model else ""
    unit = limit.on.replace("_", "-")
    left = max(0, limit.max - full.used)
    headers = {f"x-ratelimit-limit-{unit}": str(limit.max), f"x-ratelimit-remaining-{unit}": str(left), **NO_RETRY}
    if limit.on == "open_batches":
        message = f"Batch limit reached: at most {limit.max} {what}{of_model}. Try again when one of yours has ended."
        return envelope.ApiError(429, message, code="batch_limit_exceeded", type="rate_limit_error", headers=headers)
    need = f"this input counts {load.tokens}, one for each {enqueued.BYTES_A_TOKEN} of its bytes"
    if not full.ever:
        message = f"The limit is {limit.max} {what}{of_model}, and {need}: it will never fit. Send it in parts."
        return envelope.ApiError(400, message, code="token_limit_exceeded", param="input_file_id", headers=headers)
    message = (
        f"Enqueued token limit reached{of_model}. Limit: {limit.max} {what}, of which your batches have {full.used}; "
        f"{need}. Try again when some of them are done."
    )
    return envelope.ApiError(
        429, message, code="token_limit_exceeded", type="rate_limit_error", param="input_file_id", headers=headers
    )
