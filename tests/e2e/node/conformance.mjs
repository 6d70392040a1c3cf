// What a client sees through the unmodified `openai` package. Prints one line of JSON for each case.
import assert from 'node:assert/strict';
import fs from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';

const [app, inputs] = process.argv.slice(2);
const { default: OpenAI, toFile } = createRequire(path.join(app, 'package.json'))('openai');
const of = (tenant, more = {}) => new OpenAI({ baseURL: process.env.MILLRACE_URL, apiKey: `mr-${tenant}`, maxRetries: 0, ...more });
const client = of('acme');
const bare = of('globex');
const CHAT = '/v1/chat/completions';
const say = (content, more = {}) => ({ model: 'echo', messages: [{ role: 'user', content }], ...more });
const line = (number, body, url = CHAT) => JSON.stringify({ custom_id: `c${number}`, method: 'POST', url, body }) + '\n';
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

const cases = [];
const test = (name, run) => cases.push([name, run]);

async function upload(content) {
  return client.files.create({ file: await toFile(Buffer.from(content), 'in.jsonl'), purpose: 'batch' });
}

async function batchOf(content, more = {}) {
  const file = await upload(content);
  return client.batches.create({ input_file_id: file.id, endpoint: CHAT, completion_window: '24h', ...more });
}

async function until(batch, statuses, times = 600) {
  for (let i = 0; i < times; i++) {
    const now = await client.batches.retrieve(batch.id);
    if (statuses.includes(now.status)) return now;
    await sleep(100);
  }
  assert.fail(`${batch.id} was never ${statuses}`);
}
const ended = (batch) => until(batch, ['completed', 'failed', 'expired', 'cancelled']);
const linesOf = async (id) => (await (await client.files.content(id)).text()).trimEnd().split('\n').map(JSON.parse);

async function fails(promise, kind, status, code, param) {
  const error = await promise.then(() => assert.fail('it was answered'), (reason) => reason);
  assert.ok(error instanceof kind, `${error}`);
  assert.equal(error.status, status);
  if (code !== undefined) assert.equal(error.code, code);
  if (param !== undefined) assert.equal(error.param, param);
  assert.deepEqual(Object.keys(error.error).sort(), ['code', 'message', 'param', 'type']);
}

test('models are listed and found, others are not', async () => {
  const names = [];
  for await (const model of client.models.list()) names.push(model.id);
  assert.ok(names.includes('echo'));
  assert.equal((await client.models.retrieve('default')).id, 'echo');
  await fails(client.models.retrieve('nope'), OpenAI.NotFoundError, 404, 'model_not_found');
});

test('a chat, whole', async () => {
  const { data, response } = await client.chat.completions.create(say('one two three', { max_tokens: 2 })).withResponse();
  assert.equal(data.choices[0].message.content, 'one two');
  assert.equal(data.choices[0].finish_reason, 'length');
  assert.deepEqual([data.usage.prompt_tokens, data.usage.completion_tokens, data.usage.total_tokens], [3, 2, 5]);
  assert.ok(response.headers.get('x-request-id'));
});

test('a chat, streamed, with usage', async () => {
  const stream = await bare.chat.completions.create(say('a b c', { stream: true, stream_options: { include_usage: true } }));
  let text = '';
  let usage;
  for await (const chunk of stream) {
    text += chunk.choices[0]?.delta?.content ?? '';
    usage = chunk.usage ?? usage;
  }
  assert.equal(text, 'a b c');
  assert.equal(usage.total_tokens, 6);
  const helper = bare.chat.completions.stream(say('d e f'));
  assert.equal(await helper.finalContent(), 'd e f');
});

test('a blocked chat', async () => {
  const answer = await client.chat.completions.create(say('this is a banned phrase'));
  assert.deepEqual([answer.model, answer.choices[0].message.content], ['from-security-guard', 'Not here.']);
});

test('calls that are refused', async () => {
  await fails(of('nobody').chat.completions.create(say('x')), OpenAI.AuthenticationError, 401, 'invalid_api_key');
  await fails(client.chat.completions.create(say('x', { model: 'nope' })), OpenAI.NotFoundError, 404, 'model_not_found');
  await fails(client.chat.completions.create(say('x', { messages: [] })), OpenAI.BadRequestError, 400, undefined, 'messages');
  await fails(client.chat.completions.create(say('x', { max_tokens: 0 })), OpenAI.BadRequestError, 400, undefined, 'max_tokens');
  const long = say('word '.repeat(3000), { model: 'smollm2-135m' });
  await fails(client.chat.completions.create(long), OpenAI.BadRequestError, 400, 'context_length_exceeded');
  await fails(client.get('/nothing'), OpenAI.NotFoundError, 404, 'not_found');
  await fails(of('watcher').chat.completions.create(say('x')), OpenAI.PermissionDeniedError, 403, 'insufficient_permissions');
  const twice = (content) => bare.chat.completions.create(say(content), { headers: { 'Idempotency-Key': 'node-twice' } });
  assert.equal((await twice('x')).id, (await twice('x')).id);
  await fails(twice('y'), OpenAI.UnprocessableEntityError, 422, 'idempotency_key_reused');
});

test('a call beyond the quota is not tried again', async () => {
  const patient = of('spent', { maxRetries: 2 });
  const began = Date.now();
  await fails(patient.chat.completions.create(say('x')), OpenAI.RateLimitError, 429, 'quota_exceeded');
  const { headers } = await patient.chat.completions.create(say('x')).catch((reason) => reason);
  assert.equal(headers.get('x-should-retry'), 'false');
  assert.ok(headers.get('retry-after') && headers.get('x-ratelimit-limit-requests'));
  assert.ok(Date.now() - began < 60_000);
});

test('legacy completions', async () => {
  const answer = await client.completions.create({ model: 'echo', prompt: 'one two' });
  assert.deepEqual([answer.object, answer.choices[0].text], ['text_completion', 'one two']);
});

test('embeddings', async () => {
  const answer = await client.embeddings.create({ model: 'wordllama-256', input: ['a cat', 'a dog'], dimensions: 64 });
  assert.deepEqual(answer.data.map((one) => one.embedding.length), [64, 64]);
  await fails(client.embeddings.create({ model: 'echo', input: 'x' }), OpenAI.BadRequestError, 400, 'model_not_supported');
});

test('moderations', async () => {
  const { results, model } = await client.moderations.create({ input: ['harmless', 'a banned phrase'] });
  assert.deepEqual(results.map((one) => one.flagged), [false, true]);
  assert.equal(model, 'millrace-rules');
  assert.equal(results[1].categories['rule/prompt'], true);
  assert.deepEqual(results[1].category_applied_input_types.violence, []);
  await fails(client.moderations.create({ model: 'echo', input: 'x' }), OpenAI.NotFoundError, 404, 'model_not_found');
});

test('a response, whole and streamed', async () => {
  const whole = await client.responses.create({ model: 'echo', input: 'one two', instructions: 'be brief' });
  assert.deepEqual([whole.output_text, whole.status, whole.usage.output_tokens], ['one two', 'completed', 2]);
  const cut = await client.responses.create({ model: 'echo', input: 'one two', max_output_tokens: 1 });
  assert.deepEqual([cut.status, cut.incomplete_details.reason], ['incomplete', 'max_output_tokens']);
  const stream = bare.responses.stream({ model: 'echo', input: [{ role: 'user', content: 'three four' }] });
  let text = '';
  for await (const event of stream) if (event.type === 'response.output_text.delta') text += event.delta;
  assert.equal(text, 'three four');
  assert.equal((await stream.finalResponse()).output_text, 'three four');
  const stored = client.responses.create({ model: 'echo', input: 'x', store: true });
  await fails(stored, OpenAI.BadRequestError, 400, 'unsupported_parameter', 'store');
  await fails(client.responses.retrieve('resp_1'), OpenAI.NotFoundError, 404, 'not_found');
});

test('files: made, shown, listed, read in part, removed', async () => {
  const content = 'line\n'.repeat(1000);
  const file = await client.files.create({
    file: await toFile(Buffer.from(content), 'a name.jsonl'),
    purpose: 'batch',
    expires_after: { anchor: 'created_at', seconds: 3600 },
  });
  assert.deepEqual([file.object, file.bytes, file.filename, file.purpose], ['file', 5000, 'a name.jsonl', 'batch']);
  assert.equal(file.expires_at, file.created_at + 3600);
  assert.deepEqual(await client.files.retrieve(file.id), file);
  const other = await upload('{}\n');
  const newest = await client.files.list({ limit: 1, purpose: 'batch' });
  assert.equal(newest.data.length, 1);
  let seen = false;
  for await (const one of client.files.list({ limit: 3 })) if ((seen ||= one.id === file.id)) break;
  assert.ok(seen);
  const oldest = await client.files.list({ order: 'asc', limit: 2 });
  assert.ok(oldest.data[0].created_at <= oldest.data[1].created_at);
  const part = await client.files.content(file.id, { headers: { range: 'bytes=5-8' } });
  assert.deepEqual([part.status, await part.text()], [206, 'line']);
  await fails(client.files.content(file.id, { headers: { range: 'bytes=5000-' } }), OpenAI.APIError, 416, 'invalid_range');
  assert.deepEqual(await client.files.delete(file.id), { id: file.id, object: 'file', deleted: true });
  await fails(client.files.retrieve(file.id), OpenAI.NotFoundError, 404);
  await fails(bare.files.retrieve(other.id), OpenAI.NotFoundError, 404);
  const tune = client.files.create({ file: await toFile(Buffer.from('x'), 'x'), purpose: 'fine-tune' });
  await fails(tune, OpenAI.BadRequestError, 400, undefined, 'purpose');
});

test('uploads in parts', async () => {
  const upload = await client.uploads.create({ filename: 'u.jsonl', purpose: 'batch', bytes: 9, mime_type: 'text/plain' });
  assert.equal(upload.status, 'pending');
  const send = async (text) => client.uploads.parts.create(upload.id, { data: await toFile(Buffer.from(text), 'p') });
  const last = await send('third');
  const first = await send('one\n');
  await fails(client.uploads.complete(upload.id, { part_ids: [last.id] }), OpenAI.BadRequestError, 400, undefined, 'part_ids');
  const done = await client.uploads.complete(upload.id, { part_ids: [first.id, last.id] });
  assert.equal(done.status, 'completed');
  assert.equal(await (await client.files.content(done.file.id)).text(), 'one\nthird');
  const other = await client.uploads.create({ filename: 'u', purpose: 'batch', bytes: 1, mime_type: 'text/plain' });
  assert.equal((await client.uploads.cancel(other.id)).status, 'cancelled');
  const late = client.uploads.parts.create(other.id, { data: await toFile(Buffer.from('x'), 'p') });
  await fails(late, OpenAI.BadRequestError, 400);
});

test('a batch, from validating to completed', async () => {
  const content = [...Array(50).keys()].map((n) => line(n, say(`line ${n}`))).join('');
  const made = await batchOf(content, { metadata: { k: 'v' }, output_expires_after: { anchor: 'created_at', seconds: 7200 } });
  assert.deepEqual([made.object, made.status, made.errors, made.metadata.k], ['batch', 'validating', null, 'v']);
  assert.equal(made.expires_at, made.created_at + 86400);
  const batch = await ended(made);
  assert.equal(batch.status, 'completed');
  assert.deepEqual(batch.request_counts, { total: 50, completed: 50, failed: 0 });
  assert.ok(batch.in_progress_at && batch.finalizing_at && batch.completed_at);
  assert.deepEqual([batch.failed_at, batch.expired_at, batch.cancelled_at, batch.error_file_id], [null, null, null, null]);
  assert.equal(batch.usage.total_tokens, 200);
  const lines = await linesOf(batch.output_file_id);
  assert.deepEqual(lines.map((one) => one.custom_id), [...Array(50).keys()].map((n) => `c${n}`));
  assert.ok(lines.every((one) => one.error === null && one.response.status_code === 200 && one.id.startsWith('batch_req_')));
  const output = await client.files.retrieve(batch.output_file_id);
  assert.deepEqual([output.purpose, output.expires_at], ['batch_output', output.created_at + 7200]);
  await fails(client.batches.cancel(batch.id), OpenAI.ConflictError, 409);
  await fails(bare.batches.retrieve(batch.id), OpenAI.NotFoundError, 404);
  const page = await client.batches.list({ limit: 1 });
  assert.ok(page.data.length === 1 && page.hasNextPage());
});

test('a batch for each other endpoint', async () => {
  const bodies = {
    '/v1/completions': { model: 'echo', prompt: 'said' },
    '/v1/embeddings': { model: 'wordllama-256', input: 'said' },
    '/v1/moderations': { input: 'a banned phrase' },
    '/v1/responses': { model: 'echo', input: 'said' },
  };
  const said = await Promise.all(
    Object.entries(bodies).map(async ([endpoint, body]) => {
      const batch = await ended(await batchOf(line(1, body, endpoint), { endpoint }));
      assert.equal(batch.status, 'completed', JSON.stringify(batch));
      return (await linesOf(batch.output_file_id))[0].response.body;
    }),
  );
  assert.equal(said[0].choices[0].text, 'said');
  assert.equal(said[1].data[0].embedding.length, 256);
  assert.equal(said[2].results[0].flagged, true);
  assert.equal(said[3].output[0].content[0].text, 'said');
});

test('a line that the model refuses', async () => {
  const model = 'smollm2-135m';
  const batch = await ended(await batchOf(line(1, say('Hi.', { model, max_tokens: 2 })) + line(2, say('word '.repeat(3000), { model }))));
  assert.deepEqual([batch.status, batch.request_counts.completed, batch.request_counts.failed], ['completed', 1, 1]);
  const [error] = await linesOf(batch.error_file_id);
  assert.deepEqual([error.custom_id, error.response.status_code, error.error], ['c2', 400, null]);
  assert.equal(error.response.body.error.code, 'context_length_exceeded');
});

test('a batch that is cancelled, read before its end', async () => {
  const slow = [...Array(300).keys()].map((n) => line(n, say(`a slow line of eight words number ${n}`, { model: 'slow' }))).join('');
  const made = await batchOf(slow);
  const running = await until(made, ['in_progress']);
  assert.ok(running.in_progress_at && running.output_file_id === null);
  for (let i = 0; i < 600 && !(await client.batches.retrieve(made.id)).request_counts.completed; i++) await sleep(100);
  await fails(client.files.content(made.id), OpenAI.ConflictError, 409, 'batch_not_ended');
  const part = await (await client.files.content(made.id, { query: { partial: 'true' } })).text();
  const read = part.trimEnd().split('\n').map(JSON.parse);
  assert.ok(read.length > 0 && read.length < 300);
  assert.equal((await client.batches.cancel(made.id)).status, 'cancelling');
  const batch = await ended(made);
  assert.ok(batch.status === 'cancelled' && batch.cancelling_at && batch.cancelled_at);
  const kept = await linesOf(batch.output_file_id);
  const dropped = await linesOf(batch.error_file_id);
  assert.equal(kept.length + dropped.length, 300);
  assert.ok(dropped.every((one) => one.response === null && one.error.code === 'batch_cancelled'));
});

test('a batch whose window is too short', async () => {
  const words = (n) => (n % 2 ? 'short' : 'long '.repeat(60).trim());
  const content = [...Array(40).keys()].map((n) => line(n, say(words(n), { model: 'wide' }))).join('');
  const made = await batchOf(content, { completion_window: '5s' });
  await fails(client.files.delete(made.input_file_id), OpenAI.ConflictError, 409, 'file_in_use');
  const batch = await ended(made);
  assert.ok(batch.status === 'expired' && batch.expired_at >= batch.expires_at && batch.completed_at === null);
  const kept = batch.output_file_id ? await linesOf(batch.output_file_id) : [];
  const dropped = await linesOf(batch.error_file_id);
  assert.ok(kept.every((one) => one.response.body.choices[0].message.content === 'short'));
  const other = dropped.filter((one) => one.response !== null || one.error.code !== 'batch_expired');
  assert.deepEqual(other, []);
  assert.deepEqual([kept.length, dropped.length], [batch.request_counts.completed, 40 - kept.length]);
  assert.equal((await client.files.delete(made.input_file_id)).deleted, true);
});

test('batches that cannot be made', async () => {
  const file = await upload('{}\n');
  const make = (more) => client.batches.create({ input_file_id: file.id, endpoint: CHAT, completion_window: '24h', ...more });
  await fails(make({ completion_window: '8d' }), OpenAI.BadRequestError, 400, undefined, 'completion_window');
  await fails(make({ endpoint: '/v1/images/generations' }), OpenAI.BadRequestError, 400, undefined, 'endpoint');
  await fails(make({ metadata: { k: 'x'.repeat(513) } }), OpenAI.BadRequestError, 400, undefined, 'metadata');
  await fails(make({ input_file_id: 'file-none' }), OpenAI.NotFoundError, 404, undefined, 'input_file_id');
  await fails(client.batches.retrieve('batch_none'), OpenAI.NotFoundError, 404);
});

test('files that are no batch, each fault with its line', async () => {
  const expected = JSON.parse(fs.readFileSync(path.join(inputs, 'faults.json')));
  const found = await Promise.all(
    expected.map(async ({ name, file }) => {
      const made = await client.files.create({ file: fs.createReadStream(path.join(inputs, file)), purpose: 'batch' });
      const asked = { input_file_id: made.id, endpoint: CHAT, completion_window: '1h' };
      const batch = await ended(await client.batches.create(asked));
      return [name, batch.status, (batch.errors?.data ?? []).map((fault) => [fault.line, fault.code])];
    }),
  );
  assert.deepEqual(found, expected.map(({ name, faults }) => [name, 'failed', faults]));
});

await Promise.all(
  cases.map(async ([name, run]) => {
    const error = await run().then(() => null, (reason) => `${reason?.stack ?? reason}`);
    console.log(JSON.stringify({ name, error }));
  }),
);
