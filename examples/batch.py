"""A batch with the `openai` SDK as it comes: `python examples/batch.py [LINES.jsonl]` prints its results."""

import os
import sys
import time
from pathlib import Path

from openai import OpenAI

url = os.environ.get("MILLRACE_URL", f"http://127.0.0.1:{os.environ.get('MILLRACE_HTTP_PORT', 8080)}/v1")
client = OpenAI(base_url=url, api_key=os.environ.get("MILLRACE_API_KEY", "mr-acme-demo"))
path = Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("tickets.jsonl")

file = client.files.create(file=path, purpose="batch")
batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")

while batch.status in ("validating", "in_progress", "finalizing"):
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
    if counts := batch.request_counts:
        print(f"{batch.status}: {counts.completed + counts.failed} of {counts.total} lines", file=sys.stderr)

for fault in (batch.errors and batch.errors.data) or []:
    print(f"line {fault.line}: {fault.message}", file=sys.stderr)
# Results in the order of the input; lines that failed are in a file of their own.
for file_id in (batch.output_file_id, batch.error_file_id):
    if file_id:
        print(client.files.content(file_id).text, end="")
sys.exit(batch.status != "completed")
