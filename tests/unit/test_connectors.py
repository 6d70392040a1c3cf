from __future__ import annotations

import json
from pathlib import Path

import pytest

from infra.local import connect
from infra.local.install import connector_sources
from infra.local.settings import CHECKOUT, Settings
from ingest import connectors
from ingest.documents import DocumentError

TENANTS = ("acme", "globex")
SOURCE = {"connector.class": "millrace.connect.MqttSourceConnector", "tenant": "acme"}
SINK = {"connector.class": "millrace.connect.HttpSinkConnector", "tenant": "acme"}


def read(folder: Path, name: str, document: object) -> dict[str, str]:
    (folder / "connectors").mkdir(exist_ok=True)
    (folder / "connectors" / f"{name}.json").write_text(document if isinstance(document, str) else json.dumps(document))
    return connectors.read(folder, TENANTS)[name]


def test_a_connector_is_called_like_its_file_and_has_one_task(tmp_path: Path) -> None:
    config = read(tmp_path, "fleet", {**SOURCE, "http.port": 8090, "x": True, "y": 1.5})
    assert config == {**SOURCE, "name": "fleet", "tasks.max": "1", "http.port": "8090", "x": "true", "y": "1.5"}


def test_what_a_sink_cannot_deliver_goes_to_its_tenants_topic(tmp_path: Path) -> None:
    config = read(tmp_path, "back", SINK)
    assert (config["topics"], config["errors.tolerance"]) == ("responses", "all")
    assert config["errors.deadletterqueue.topic.name"] == "undelivered.acme"
    assert [topic.name for topic in connectors.needed_topics([config])] == ["undelivered.acme"]


def test_what_the_file_says_of_it_wins(tmp_path: Path) -> None:
    config = read(tmp_path, "back", {**SINK, "topics": "responses.acme", "errors.deadletterqueue.topic.name": "mine"})
    assert (config["topics"], config["errors.deadletterqueue.topic.name"]) == ("responses.acme", "mine")
    assert connectors.needed_topics([config]) == []


def test_connectors_of_others_are_left_as_they_are(tmp_path: Path) -> None:
    other = {"connector.class": "org.example.Sink", "topics": "usage"}
    assert read(tmp_path, "other", other) == {**other, "name": "other", "tasks.max": "1"}


@pytest.mark.parametrize(
    ("document", "what"),
    [
        ("{", ".json:1: not JSON"),
        ([], "is a JSON object of settings"),
        ({}, "connector.class: is missing"),
        ({**SOURCE, "tenant": "other"}, "tenant: there is no tenant 'other'"),
        ({**SOURCE, "name": "x"}, "name: must be that of the file, fleet"),
        ({**SOURCE, "mappings": ["m"]}, "mappings: must be text"),
    ],
)
def test_faults_are_named_with_their_file(tmp_path: Path, document: object, what: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read(tmp_path, "fleet", document)
    assert str(tmp_path / "connectors" / "fleet.json") in str(caught.value) and what in str(caught.value)


def test_a_configuration_without_connectors_has_none(tmp_path: Path) -> None:
    assert connectors.read(tmp_path, TENANTS) == {}


def test_the_cause_of_a_failed_task_is_its_last_one() -> None:
    trace = (
        "org.x.ConnectException: cannot listen\n\tat a.b(C.java:1)\nCaused by: java.net.BindException: in use\n\tat d"
    )
    assert connectors._first_cause(trace) == "java.net.BindException: in use"
    assert connectors._first_cause("") == "no reason given"


def test_a_changed_source_makes_another_jar() -> None:
    names = {path.name for path in connector_sources()}
    assert {"pom.xml", "MqttSourceTask.java", "MappingTest.java", "dead_letter.avsc", "response.avsc"} <= names
    registered = (CHECKOUT / "ingest/connect/src/main/resources/META-INF/services").iterdir()
    classes = {line.rpartition(".")[2] for path in registered for line in path.read_text().split()}
    assert classes == {p.stem for p in connector_sources() if p.name.endswith("Connector.java")}


def test_the_examples_are_connectors_of_the_demos_tenants() -> None:
    found = connectors.read(CHECKOUT / "examples", TENANTS)
    kinds = {c["connector.class"].rpartition(".")[2].removesuffix("Connector") for c in found.values()}
    assert kinds == {"MqttSource", "WebhookSource", "PollSource", "MqttSink", "HttpSink"}


def test_the_worker_listens_where_the_settings_say() -> None:
    properties = connect.properties(Settings.read({"MILLRACE_CONNECT_PORT": "18083", "MILLRACE_KAFKA_PORT": "19092"}))
    assert properties["listeners"] == "http://127.0.0.1:18083"
    assert properties["bootstrap.servers"] == "127.0.0.1:19092"
