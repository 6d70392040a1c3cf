from __future__ import annotations

import configparser
import threading
from collections import namedtuple
from pathlib import Path

import pytest

from infra.local import launch, supervisor, up
from infra.local.plan import Step, carry_out
from infra.local.services import BY_NAME
from infra.local.settings import Settings, Trouble
from infra.local.status import log_files, uptime

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({"MILLRACE_HOME": str(tmp_path)})


def test_the_process_manager_keeps_every_service(settings: Settings) -> None:
    parser = configparser.RawConfigParser()
    parser.read_string(supervisor.configuration(settings))
    programs = {name.removeprefix("program:") for name in parser.sections() if name.startswith("program:")}
    assert programs == set(BY_NAME)
    for name in programs:
        program = parser[f"program:{name}"]
        assert (program["autorestart"], program["startsecs"], program["killasgroup"]) == ("true", "0", "true")


def test_the_services_of_the_contract_are_there() -> None:
    contract = "kafka registry jobmanager taskmanager s3 redis gateway relay batcher worker-1 worker-2 live"
    assert set(contract.split()) <= set(BY_NAME)


def test_a_percent_sign_in_a_path_is_no_pattern(tmp_path: Path) -> None:
    home = Settings.read({"MILLRACE_HOME": str(tmp_path / "100%")})
    assert "/100%%/logs" in supervisor.configuration(home)


def test_the_socket_lies_in_the_home_unless_its_path_is_too_long() -> None:
    short = Settings.read({"MILLRACE_HOME": "/tmp/h"})
    assert supervisor.socket_path(short) == Path("/tmp/h/run/supervisor.sock")
    one, two = (Settings.read({"MILLRACE_HOME": f"/tmp/{letter * 100}"}) for letter in "ab")
    assert len(str(supervisor.socket_path(one))) <= supervisor.SOCKET_BYTES
    assert supervisor.socket_path(one) != supervisor.socket_path(two)


def test_a_full_disk_is_one_clear_line(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(up.shutil, "disk_usage", lambda _: Usage(1, 1, 5 << 20))
    with pytest.raises(Trouble, match=r"full \(5 MiB free, 1024 needed\): make room"):
        up.check_disk(settings)


def test_stale_pid_files_are_cleared_and_no_stranger_is_killed(settings: Settings) -> None:
    path = launch.pid_file(settings, "kafka")
    path.parent.mkdir(parents=True)
    path.write_text("1\n")
    up.sweep(settings)
    assert not path.exists()


def test_the_last_words_of_a_service(settings: Settings) -> None:
    assert "it said nothing" in up.last_words(settings, "relay")
    (settings.home / "logs").mkdir(parents=True)
    (settings.home / "logs" / "relay.log").write_text("one\nno such broker\n\n")
    assert up.last_words(settings, "relay").startswith("no such broker (see ")
    assert log_files(settings, ["relay"]) == [settings.home / "logs" / "relay.log"]
    with pytest.raises(Trouble, match="no service 'rely'"):
        log_files(settings, ["rely"])


def test_an_uptime_is_written_with_hours() -> None:
    assert uptime(3725) == "1:02:05"


def test_steps_run_after_what_they_need() -> None:
    order: list[str] = []
    done: list[str] = []
    steps = [
        Step("broker", lambda _: order.append("broker")),
        Step("topics", lambda _: order.append("topics"), ("broker",)),
        Step("gateway", lambda _: order.append("gateway"), ("topics",)),
    ]
    carry_out(steps, done.append)
    assert order == done == ["broker", "topics", "gateway"]


def test_a_failing_step_ends_the_others_and_is_what_is_told() -> None:
    def fail(_: threading.Event) -> None:
        raise Trouble("port is taken")

    done: list[str] = []
    waiting = Step("waiting", lambda failed: None if failed.wait(30) else pytest.fail("was not told"))
    with pytest.raises(Trouble, match="port is taken"):
        carry_out([Step("broken", fail), Step("after", lambda _: None, ("broken",)), waiting], done.append)
    assert "after" not in done
