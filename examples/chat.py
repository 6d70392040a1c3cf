"""A client of the API is the `openai` SDK as it comes: `python examples/chat.py "your question"`."""

import os
import sys

from openai import OpenAI

url = os.environ.get("MILLRACE_URL", f"http://127.0.0.1:{os.environ.get('MILLRACE_HTTP_PORT', 8080)}/v1")
client = OpenAI(base_url=url, api_key=os.environ.get("MILLRACE_API_KEY", "mr-acme-demo"))
question = " ".join(sys.argv[1:]) or "What is a mill race?"

stream = client.chat.completions.create(
    model="default",
    messages=[{"role": "user", "content": question}],
    max_tokens=64,
    stream=True,
    stream_options={"include_usage": True},
)
for chunk in stream:
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
    if chunk.usage:
        print(f"\n[{chunk.usage.prompt_tokens} + {chunk.usage.completion_tokens} tokens]")

# The same question twice at temperature 0 is answered once; the second answer comes from the first.
for _ in range(2):
    raw = client.chat.completions.with_raw_response.create(
        model="default", messages=[{"role": "user", "content": question}], max_tokens=16, temperature=0
    )
    print(raw.headers["x-millrace-cache"], raw.headers["x-request-id"], raw.parse().choices[0].message.content)
