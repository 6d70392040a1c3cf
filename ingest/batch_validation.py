"""The validation of a whole input file: all or nothing, every bad line reported. Pure."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from ingest import batch_line
from ingest.batch_line import Fault, Line
from ingest.hashes import Hashes

MAX_LINES: Final = 10_000_000
MAX_FAULTS: Final = 1_000


class Verdict(NamedTuple):
    """What validation found. The file is good if `faults` is empty; then `total` >= 1 and `model` is known."""

    total: int
    model: str
    faults: tuple[Fault, ...]


class Validation:
    """Takes the lines of a file in order. Lines of white space are allowed at the end only."""

    def __init__(self, endpoint: str, knows_model: Callable[[str], bool]) -> None:
        self._endpoint = endpoint
        self._knows_model = knows_model
        self._good_lines = batch_line.good_lines(endpoint)
        self._ids = Hashes()
        self._faults: list[Fault] = []
        self._model = ""
        self._line = 0
        self._blank = 0

    @property
    def over(self) -> bool:
        """Whether further lines would change nothing: too many of them, or of their faults."""
        return self._line >= MAX_LINES + 1 or len(self._faults) >= MAX_FAULTS

    @property
    def seen(self) -> int:
        """Lines taken so far."""
        return self._line + self._blank

    def add_lines(self, lines: bytes) -> None:
        """Take the next whole lines, each with its newline: together if all are good, else one by one."""
        if not self._take_good(lines):
            for raw in lines.split(b"\n")[:-1]:
                self.add(raw)

    def add(self, raw: bytes) -> None:
        """Take the next line, without its newline."""
        if self.over:
            return
        if not raw.strip():
            self._blank += 1
            return
        while self._blank and not self.over:
            self._blank -= 1
            self._report(Fault("invalid_json_line", "The line is empty."))
        if self._line == MAX_LINES:
            self._line += 1
            self._faults.append(Fault("too_many_tasks", f"A batch may have at most {MAX_LINES} lines."))
            return
        parsed = batch_line.parse(raw)
        fault = parsed if isinstance(parsed, Fault) else self._compare(parsed)
        if fault is not None:
            self._report(fault)
            return
        assert isinstance(parsed, Line)
        self._line += 1
        self._ids.add(parsed.custom_id)

    def finish(self) -> Verdict:
        """The verdict, after the last line."""
        for place, first in self._ids.repetitions(MAX_FAULTS):
            message = f"custom_id occurs more than once: line {first + 1} has it too."
            self._faults.append(Fault("duplicate_custom_id", message, "custom_id", place + 1))
        if not self._line and not self._faults:
            self._faults.append(Fault("empty_file", "The input file has no line."))
        self._faults.sort(key=lambda fault: fault.line or self._line + 1)
        return Verdict(self._line, self._model, tuple(self._faults[:MAX_FAULTS]))

    def _take_good(self, lines: bytes) -> bool:
        """Whether all lines are good and were taken; the first of a file is never taken here, as it names the model."""
        if self._blank or not self._model or self.over:
            return False
        found = self._good_lines(lines)
        if found is None or self._line + len(found) > MAX_LINES or {f.body.model for f in found} != {self._model}:
            return False
        self._ids.extend([f.custom_id for f in found])
        self._line += len(found)
        return True

    def _report(self, fault: Fault) -> None:
        """A bad line. Its place among the custom ids is held by what no custom id can be: it is too long for one."""
        self._line += 1
        self._ids.add(f"{self._line:0{batch_line.MAX_CUSTOM_ID + 1}}")
        self._faults.append(fault._replace(line=self._line))

    def _compare(self, line: Line) -> Fault | None:
        """Hold a good line against the batch and the lines before it."""
        if line.url != self._endpoint:
            return Fault("url_mismatch", f"url is not the batch's endpoint {self._endpoint}.", "url")
        if self._model and line.model != self._model:
            message = f"A file is for one model: this line has {line.model!r}, an earlier one {self._model!r}."
            return Fault("model_mismatch", message, "body.model")
        if not self._knows_model(line.model):
            return Fault("model_not_found", f"There is no model {line.model!r}.", "body.model")
        self._model = line.model
        return None
