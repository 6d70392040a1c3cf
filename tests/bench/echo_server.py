"""The echo engine behind plain HTTP: `python -m tests.bench.echo_server` prints its port and serves until SIGTERM.

It is what a caller would reach without the platform, on the same HTTP stack as the gateway.
"""

from __future__ import annotations

import socket
import time
import uuid
from typing import Any

import orjson
import uvicorn
import uvloop

from schemas.config import Pool
from workers.engines import CHAT, Final, Job
from workers.engines.echo import Echo

ENGINE = Echo(Pool(engine="echo", concurrency=256))


async def app(scope: Any, receive: Any, send: Any) -> None:
    """Answer one chat call."""
    if scope["type"] != "http":
        return
    data, more = b"", True
    while more:
        message = await receive()
        data, more = data + message.get("body", b""), message.get("more_body", False)
    body = orjson.loads(data)
    job = Job(uuid.uuid4().hex, CHAT, body["model"], body, False, 0, 0)
    answer: dict[str, Any] = {"id": f"chatcmpl-{job.request_id}", "object": "chat.completion"}
    answer |= {"created": int(time.time()), "model": job.model}
    async for part in ENGINE.generate(job):
        assert isinstance(part, Final)
        answer |= part.body
    headers = [(b"content-type", b"application/json")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": orjson.dumps(answer)})


async def serve() -> None:
    """Listen on a free port of the loopback interface."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    print(listener.getsockname()[1], flush=True)
    config = uvicorn.Config(app, http="httptools", ws="none", lifespan="off", access_log=False, log_level="warning")
    await uvicorn.Server(config).serve([listener])


if __name__ == "__main__":
    uvloop.run(serve())
