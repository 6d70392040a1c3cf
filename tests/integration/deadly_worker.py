"""A worker with an engine that kills its process at a marked prompt, as a fault in a native library would."""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator

from workers import main
from workers.engines import Final, Job, Piece, echo

DEADLY = "deadly"


class Deadly(echo.Echo):
    """Echo, but for DEADLY."""

    async def generate(self, job: Job) -> AsyncIterator[Piece | Final]:
        """As echo does; the process is killed after the first word of what is marked."""
        async for part in super().generate(job):
            yield part
            if echo.prompt(job)[0].startswith(DEADLY):
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    echo.Echo = Deadly  # type: ignore[misc]
    main.main()
