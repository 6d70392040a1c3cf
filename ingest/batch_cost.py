"""What a line of a batch must be able to pay before it is let in. Pure."""

from __future__ import annotations

from ingest.batch_line import Line
from ingest.batch_models import Models
from streams import body as bodies
from streams import ledger
from streams.body import BodyError
from streams.judging import MODERATIONS
from streams.responses import RESPONSES, chat_body


def least_micros(line: Line, models: Models) -> int:
    """The least that a balance must have left for a line to be admitted, in micro-units.

    That is the bound of its cost for the cheapest model that its name may stand for, or of what a shared answer costs
    where it may get one. 0 where nothing is sure: a line that will be refused costs nothing either.
    """
    if line.url == MODERATIONS:
        return 0
    try:
        body = bodies.parse(line.body)
        body = chat_body(body) if line.url == RESPONSES else body
        found = []
        for model, pools in models.candidates(line.model):
            bodies.validate(body, line.url, model)
            bounds = bodies.bounds(body, model, pools)
            caches = ("miss", "hit", "follower") if bodies.cacheable(body, "default") else ("miss",)
            share = min(ledger.share_of(model.price, "batch", cache) for cache in caches)
            found.append(ledger.cost_bound(model.price, *bounds, share))
        return min(found, default=0)
    except BodyError:
        return 0
