"""The stack is stopped and started with another number of TaskManagers while requests run and wait."""

from concurrent.futures import ThreadPoolExecutor

from tests.e2e.carrying import Carried
from tests.e2e.cluster import homes
from tests.e2e.configuration import CARRIED, CARRIERS
from tests.e2e.prober import Prober
from tests.e2e.stack import Stack, eventually


def restart(stack: Stack, carried: Carried, taskmanagers: int) -> None:
    """`make down`, and `make up` with this many."""
    stack.down()
    carried.stopped()
    stack.env["MILLRACE_TASKMANAGERS"] = str(taskmanagers)
    stack.run("up")


def test_held_requests_and_quota_are_carried_from_one_taskmanager_to_two_and_back(stack: Stack):
    # Lines wait at both stops, in whichever minutes these come.
    carried = Carried(stack, CARRIERS, minutes=5)
    share = CARRIED // 3
    assert carried.storm(share) == [share] * len(CARRIERS)
    carried.submit()
    carried.call()
    assert len(homes(stack)) == 1
    restart(stack, carried, 2)
    assert len(homes(stack)) == 2
    assert carried.storm(share) == [share] * len(CARRIERS)
    carried.call()
    with ThreadPoolExecutor(256) as threads:
        prober = Prober(stack, threads)
        stack.kill("taskmanager-2")
        eventually(lambda: prober.steady() and stack.admitting(), 60, "calls to be answered again")
        prober.end()
    assert len(homes(stack)) == 2
    carried.call()
    restart(stack, carried, 1)
    assert len(homes(stack)) == 1
    assert carried.storm(2 * share) == [share] * len(CARRIERS), "quota was lost or doubled on the way"
    carried.end()
