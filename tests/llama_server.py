"""llama.cpp's own HTTP server with the small model: `python -m tests.llama_server` prints its address and serves.

It shares nothing with our engine `llama` but the weights: endpoints, tools, schemas and reasoning are llama.cpp's, so
it stands for any OpenAI-compatible server.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import threading
from pathlib import Path

from workers.engines.llama import weights

MODEL = "smollm2-135m"
SLOTS = 4
# ChatML with tools, as Hermes and Qwen write them: llama.cpp learns the form of a tool call from the template, and
# holds the model to it by a grammar. The model's own template knows none.
TEMPLATE = """
{%- if tools %}<|im_start|>system
Tools:{% for tool in tools %}
{{ tool | tojson }}{% endfor %}
Call one so: <tool_call>
{"name": <name>, "arguments": <object>}
</tool_call><|im_end|>
{% endif -%}
{%- for m in messages -%}
<|im_start|>{{ 'user' if m.role == 'tool' else m.role }}
{% if m.role == 'tool' %}<tool_response>
{{ m.content }}
</tool_response>{% else %}{% if m.reasoning_content %}<think>
{{ m.reasoning_content }}
</think>

{% endif %}{{ m.content or '' }}{% for call in m.tool_calls or [] %}
<tool_call>
{"name": "{{ call.function.name }}", "arguments": {{ call.function.arguments | tojson }}}
</tool_call>{% endfor %}{% endif %}<|im_end|>
{% endfor -%}
{%- if add_generation_prompt %}<|im_start|>assistant
{% endif %}"""
# Of each slot; the test of a prompt that does not fit goes beyond.
CONTEXT_TOKENS = 1_024


def serve() -> None:
    """Serve until SIGTERM."""
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = str(weights(MODEL)[0])
    params.model_alias = {MODEL}
    params.n_parallel = SLOTS
    params.n_ctx = CONTEXT_TOKENS * SLOTS
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
    params.use_jinja = True
    params.chat_template = TEMPLATE
    # A prompt that was seen before must not be read another way the second time: the answers are compared.
    params.cache_prompt = False
    params.cache_ram_mib = 0
    params.fit_params = params.warmup = params.ui = False
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    stopped = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopped.set())
    server = xllamacpp.Server(params)
    print(server.listening_address, flush=True)
    stopped.wait()


class LlamaServer:
    """The server in a process of its own."""

    def __init__(self, log: Path) -> None:
        with log.open("ab") as errors:
            line = [sys.executable, "-m", "tests.llama_server"]
            root = Path(__file__).parents[1]
            self._process = subprocess.Popen(line, cwd=root, stdout=subprocess.PIPE, stderr=errors, text=True)
        assert self._process.stdout is not None
        # llama.cpp may write lines of its own to stdout.
        self.base = next(line.strip() for line in self._process.stdout if line.startswith("http"))

    @property
    def url(self) -> str:
        """What `base_url` of a pool says."""
        return f"{self.base}/v1"

    def stop(self) -> None:
        """End it."""
        self._process.terminate()
        try:
            self._process.wait(10)
        finally:
            self._process.kill()


if __name__ == "__main__":
    serve()
