"""Input files that are no batch, each with the faults that the batch must name: (line, code)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

CHAT = "/v1/chat/completions"


class Bad(NamedTuple):
    """A file and its faults; the line is None where the whole file is at fault."""

    content: bytes
    faults: list[tuple[int | None, str]]


def line(custom_id: Any = "a", body: dict[str, Any] | None = None, **changes: Any) -> bytes:
    """A line, good unless changed."""
    said = {"model": "echo", "messages": [{"role": "user", "content": "x"}], **(body or {})}
    return json.dumps({"custom_id": custom_id, "method": "POST", "url": CHAT, "body": said, **changes}).encode() + b"\n"


GOOD = line("good")
FILES: dict[str, Bad] = {
    "no JSONL at all": Bad(b"Dear model,\nanswer me!\n", [(1, "invalid_json_line"), (2, "invalid_json_line")]),
    "a byte order mark": Bad(b"\xef\xbb\xbf" + GOOD, [(1, "invalid_json_line")]),
    "another url": Bad(GOOD + line(url="/v1/embeddings"), [(2, "url_mismatch")]),
    "two models": Bad(GOOD + line(body={"model": "slow"}), [(2, "model_mismatch")]),
    "an unknown model": Bad(line(body={"model": "nope"}), [(1, "model_not_found")]),
    "a custom_id twice": Bad(GOOD + line() + GOOD, [(3, "duplicate_custom_id")]),
    "an overlong custom_id": Bad(GOOD + line("x" * 65), [(2, "invalid_request")]),
    "no custom_id": Bad(line(None) + GOOD, [(1, "invalid_request")]),
    "a stream": Bad(GOOD + line(body={"stream": True}), [(2, "invalid_request")]),
    "another method": Bad(line(method="GET"), [(1, "invalid_request")]),
    "nothing": Bad(b"", [(None, "empty_file")]),
    "a line of 50 MB": Bad(GOOD + line(body={"pad": "x" * 50_000_000}), [(2, "invalid_request")]),
    "invalid UTF-8": Bad(GOOD + line("b").replace(b'"x"', b'"\xff"'), [(2, "invalid_json_line")]),
    "a broken line between good ones": Bad(GOOD + b'{"custom_id": \n' + line(), [(2, "invalid_json_line")]),
}


def write(folder: Path) -> None:
    """Each file by its number, and `faults.json` with what is expected of it."""
    expected = []
    for number, (name, bad) in enumerate(FILES.items()):
        (folder / f"{number}.jsonl").write_bytes(bad.content)
        expected.append({"name": name, "file": f"{number}.jsonl", "faults": bad.faults})
    (folder / "faults.json").write_text(json.dumps(expected))
