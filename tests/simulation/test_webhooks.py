"""Webhooks under kills, in the toy world."""

import pytest

from tests.simulation.webhook_world import World


@pytest.mark.parametrize("seed", range(20))
def test_every_event_ends_as_its_endpoint_deserves(seed):
    world = World(seed)
    world.run()
    assert world.life > 3, "no kill came: this shows nothing"
