"""Batches from and to s3:// URIs of their tenant: whole folders in, results in order out. Admission is a double."""

from __future__ import annotations

from typing import Any

import openai
import orjson
import pytest
from batch_admission import BatchAdmission
from batch_world import World, jsonl, line
from parts import await_

from ingest import input_source, places
from ingest.services import s3_client
from ingest.storage import Missing, Storage

pytest_plugins = ("batch_world",)


@pytest.fixture(scope="module")
def theirs(world: World) -> Storage:
    """The tenant's bucket, with a folder of three objects: one ends without a newline, one was uploaded in parts."""
    storage = Storage(s3_client(world.addresses), "theirs")
    storage.prepare()
    storage.put("in/day/a.jsonl", jsonl([line(n) for n in range(1, 4)]).rstrip(b"\n"))
    storage.put("in/day/b/README.txt", b"not a line")
    upload = storage.begin_upload("in/day/b/b.jsonl")
    part = storage.send_part("in/day/b/b.jsonl", upload, 1, jsonl([line(n) for n in range(4, 6)]))
    storage.end_upload("in/day/b/b.jsonl", upload, [part])
    storage.put("in/day/c.jsonl", b"")
    storage.put("in/day/d.jsonl", jsonl([line(n) for n in range(6, 9)]))
    storage.put("in/bad/a.jsonl", jsonl([line(1), line(2)]))
    storage.put("in/bad/b.jsonl", jsonl([line(3)]) + b"{oops\n")
    return storage


@pytest.fixture(scope="module")
def client(world: World, theirs: Storage) -> openai.OpenAI:
    world.batcher()
    return openai.OpenAI(api_key="key-owner", base_url=world.gateway(), max_retries=0)


def create(client: openai.OpenAI, uri: str, **more: Any) -> openai.types.Batch:
    endpoint: Any = "/v1/chat/completions"
    return client.batches.create(input_file_id=uri, endpoint=endpoint, completion_window="24h", extra_body=more)


def ended(client: openai.OpenAI, batch_id: str) -> openai.types.Batch:
    final = ("completed", "failed", "expired", "cancelled")
    await_(lambda: client.batches.retrieve(batch_id).status in final, "end of the batch", 60)
    return client.batches.retrieve(batch_id)


def test_a_folder_is_one_file_and_its_results_go_to_a_folder(
    client: openai.OpenAI, theirs: Storage, admission: BatchAdmission
) -> None:
    made = create(client, "s3://theirs/in/day", output_uri="s3://theirs/out/")
    batch = ended(client, made.id)
    assert (batch.status, batch.input_file_id, batch.error_file_id) == ("completed", "s3://theirs/in/day", None)
    assert batch.output_file_id == f"s3://theirs/out/{batch.id}/output.jsonl"
    content = theirs.get(f"out/{batch.id}/output.jsonl").body
    assert [orjson.loads(text)["custom_id"] for text in content.splitlines()] == [f"c{n}" for n in range(1, 9)]
    shown = client.get(f"/batches/{batch.id}/content", cast_to=object, options={"headers": {"accept": "*/*"}})
    assert str(shown).count("batch_req_") == 8


def test_an_object_may_be_read_without_naming_an_output(client: openai.OpenAI, admission: BatchAdmission) -> None:
    batch = ended(client, create(client, "s3://theirs/in/day/d.jsonl").id)
    assert batch.output_file_id is not None
    lines = client.files.content(batch.output_file_id).text.splitlines()
    assert [orjson.loads(text)["custom_id"] for text in lines] == ["c6", "c7", "c8"]


def test_what_failed_is_run_again_from_there(client: openai.OpenAI, theirs: Storage, admission: BatchAdmission) -> None:
    theirs.put("in/again/a.jsonl", jsonl([line(1), line(2, "fail")]).rstrip(b"\n"))
    theirs.put("in/again/b.jsonl", jsonl([line(3), line(4, "refuse")]))
    first = ended(client, create(client, "s3://theirs/in/again/", output_uri="s3://theirs/out/").id)
    assert first.error_file_id == f"s3://theirs/out/{first.id}/error.jsonl"
    second = ended(client, client.post(f"/batches/{first.id}/retry", cast_to=openai.types.Batch).id)
    assert second.status == "completed" and second.error_file_id == f"s3://theirs/out/{second.id}/error.jsonl"
    content = theirs.get(f"out/{second.id}/error.jsonl").body
    assert [orjson.loads(text)["custom_id"] for text in content.splitlines()] == ["c2", "c4"]


def test_a_fault_names_the_object_and_the_line_in_it(client: openai.OpenAI, admission: BatchAdmission) -> None:
    batch = ended(client, create(client, "s3://theirs/in/bad/").id)
    assert batch.status == "failed" and batch.errors is not None and batch.errors.data is not None
    (fault,) = batch.errors.data
    assert (fault.code, fault.line) == ("invalid_json_line", 4)
    assert fault.message is not None and fault.message.endswith("(line 2 of s3://theirs/in/bad/b.jsonl)")


def test_what_is_changed_after_validation_is_not_read(world: World, theirs: Storage) -> None:
    theirs.put("in/late.jsonl", b"1\n2\n")
    source = input_source.find(world.storage, "owner", "s3://theirs/in/late.jsonl")
    input_source.keep(world.storage, "batch_late", source, ())
    read = input_source.kept(world.storage, "batch_late", "owner", "s3://theirs/in/late.jsonl")
    assert b"".join(read.blocks(2, read.size)) == b"2\n"
    theirs.put("in/late.jsonl", b"1\n3\n")
    with pytest.raises(Missing, match="is not what it was"):
        list(read.blocks(2, read.size))
    world.storage.delete([places.batch_plan("batch_late")])


@pytest.mark.parametrize(
    ("uri", "output", "status", "param"),
    [
        ("s3://theirs/inner/a.jsonl", "", 403, "input_file_id"),
        ("s3://millrace/files/acme/", "", 403, "input_file_id"),
        ("s3://theirs/in/../secret.jsonl", "", 400, "input_file_id"),
        ("s3://theirs/in/nothing/", "", 404, "input_file_id"),
        ("s3://theirs/in/day/", "s3://theirs/in/", 0, ""),
        ("s3://theirs/in/day/", "s3://theirs/out", 400, "output_uri"),
        ("s3://theirs/in/day/", "s3://elsewhere/out/", 403, "output_uri"),
    ],
)
def test_what_is_not_the_tenants_is_refused_at_create(
    client: openai.OpenAI, admission: BatchAdmission, uri: str, output: str, status: int, param: str
) -> None:
    if not status:
        assert ended(client, create(client, uri, output_uri=output).id).status == "completed"
        return
    with pytest.raises(openai.APIStatusError) as refused:
        create(client, uri, output_uri=output)
    assert (refused.value.status_code, refused.value.param) == (status, param)


def test_a_tenant_without_uris_may_name_none(client: openai.OpenAI) -> None:
    other = openai.OpenAI(api_key="key-acme", base_url=client.base_url, max_retries=0)
    with pytest.raises(openai.PermissionDeniedError, match="none are allowed"):
        create(other, "s3://theirs/in/day/")
