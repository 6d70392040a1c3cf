"""What /v1/moderations answers: the tenant's own rules, applied to texts that are not sent anywhere. Pure.

OpenAI's categories are all there, and all false: no rule speaks of them, and their `category_applied_input_types` says
so by being empty. The categories that are served are the rules themselves, `rule/<id>`.
"""

from __future__ import annotations

from typing import Any, Final

import orjson

from schemas.records import Open
from streams import body as bodies
from streams.body import BodyError
from streams.policy import Policy
from streams.verdict import Verdict, refusal

MODERATIONS: Final = "/v1/moderations"
MODEL: Final = "millrace-rules"
# OpenAI's, for those who name none.
DEFAULT: Final = "omni-moderation-latest"
# Names under which clients ask for it.
NAMES: Final = frozenset(
    {
        "", MODEL, DEFAULT, "omni-moderation-2024-09-26", "text-moderation-latest",
        "text-moderation-stable", "text-moderation-007",
    }
)  # fmt: skip
OPENAI: Final = (
    "harassment", "harassment/threatening", "hate", "hate/threatening", "illicit", "illicit/violent", "self-harm",
    "self-harm/instructions", "self-harm/intent", "sexual", "sexual/minors", "violence", "violence/graphic",
)  # fmt: skip
MAX_INPUTS: Final = 1_024
STAGES: Final = ("request", "response")


def inputs(body: dict[str, Any]) -> list[str]:
    """The texts to judge, each of which gets a result. Raises BodyError."""
    given = body.get("input")
    if isinstance(given, str):
        return [given]
    if not isinstance(given, list) or not given:
        raise BodyError("input must be a string or a list, not empty.", "input")
    if len(given) > MAX_INPUTS:
        raise BodyError(f"input may have at most {MAX_INPUTS} texts.", "input")
    if all(isinstance(text, str) for text in given):
        return given
    texts = [part.get("text") if isinstance(part, dict) and part.get("type") == "text" else None for part in given]
    said = [text for text in texts if isinstance(text, str)]
    if len(said) < len(given):
        raise BodyError("Only texts are judged here.", "input", "unsupported_parameter")
    return ["\n".join(said)]  # parts are one input


def check(o: Open, body: dict[str, Any]) -> None:
    """Whether it can be judged. Raises BodyError."""
    if o["requested_model"] not in NAMES:
        raise BodyError(f"The model `{o['requested_model']}` does not moderate.", "model", "model_not_found")
    inputs(body)


def verdict(policy: Policy, o: Open) -> Verdict:
    """The answer to a request that `check` let pass."""
    try:
        results = [judge(policy, text) for text in inputs(bodies.parse(o["body"]))]
    except Exception:  # whatever broke, nobody may take it for a harmless text
        return refusal(503, "The moderation of this request failed.", "moderation_unavailable")
    answer = {"id": f"modr-{o['request_id']}", "model": MODEL, "results": results}
    return Verdict("completed", 200, orjson.dumps(answer))


def judge(policy: Policy, text: str) -> dict[str, Any]:
    """One result, in OpenAI's shape. Raises ModerationError."""
    found = {
        match.rule.id
        for stage in STAGES
        if policy.moderator.applies(stage)
        for match in policy.moderator.check(text, stage).found
    }
    served = [f"rule/{rule.id}" for rule in policy.document.rules]
    hit = dict.fromkeys(OPENAI, False) | {name: name.removeprefix("rule/") in found for name in served}
    return {
        "flagged": bool(found),
        "categories": hit,
        "category_scores": {name: float(value) for name, value in hit.items()},
        "category_applied_input_types": {name: ["text"] if name in served else [] for name in hit},
    }
