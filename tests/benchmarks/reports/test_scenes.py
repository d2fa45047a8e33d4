"""Rooms as they are known from observations, against the game's own state."""

from __future__ import annotations

import random
import re

import gymnasium as gym
import pytest

from sdar_benchmarks.reports.scenes import RoomGuide


@pytest.mark.parametrize("task", [3, 40, 77, 120])
def test_a_room_is_what_was_seen(task: int) -> None:
    env = gym.make("sdar/ALFWorld-v0", split="valid_unseen").unwrapped
    observation, info = env.reset(options={"task_id": f"alfworld/valid_unseen/{task:04d}"})
    guide, rng = RoomGuide(), random.Random(task)
    plan = list(env.oracle_plan())
    seen: dict[str, set[str]] = {}
    for step in range(40):
        commands = info["admissible_commands"]
        # Much is done and undone between the steps of the plan.
        action = plan.pop(0) if step % 3 == 2 and plan and plan[0] in commands else rng.choice(commands)
        view = guide.view({"observation": observation, "action": action, "admissible_commands": commands})
        assert view is not None
        # What is takeable here is what the room lists here.
        here = next((place for place in view.known if place.is_here), None)
        takes = [re.fullmatch("take (.*) from (.*)", command) for command in commands]
        if here is not None:
            # Other receptacles may be within reach from here.
            takeable = {found[1] for found in takes if found and found[2] == here.name}
            listed = {thing.removesuffix(" (treated)") for thing, _ in here.things}
            if not here.is_closed or takeable:
                assert takeable <= listed
            assert here.name in {command[8:] for command in commands if command.startswith("examine ")}
            seen[here.name] = listed
        held = {command[5:].split(" to ")[0] for command in commands if command.startswith("move ")}
        if held:
            assert held == {view.held}
        assert {place.name for place in view.known}.isdisjoint(view.unknown)
        names = {command[6:] for command in commands if command.startswith("go to ")}
        assert names <= {place.name for place in view.known} | set(view.unknown)
        observation, _, terminated, truncated, info = env.step(action)
        if terminated or truncated:
            break
    assert len(seen) > 3
    assert any(seen.values())


def test_only_rooms_are_rooms() -> None:
    guide = RoomGuide()
    assert guide.view({"observation": "On the desk 1, you see a mug 1."}) is None
    assert guide.view({"observation": None}) is None
    around = {"observation": "Looking quickly around you, you see a desk 1, and a safe 1.", "action": "open safe 1"}
    view = guide.view(around)
    assert view is not None
    assert (view.known, view.unknown, view.title) == ((), ("desk 1", "safe 1"), "The room: 0 of 2 receptacles seen")
    # What a run recorded otherwise than usual is passed over.
    assert guide.view({"observation": 3}) is None
    view = guide.view(
        {"observation": "You open the safe 1. The safe 1 is open. In it, you see a watch 2.", "action": 1}
    )
    assert view is not None
    [safe] = view.known
    assert safe.things == (("watch 2", True),)
    assert not safe.is_closed
    view = guide.view({"observation": "You pick up the watch 2 from the safe 1.", "admissible_commands": [1, "look"]})
    assert view is not None
    assert view.known[0].things == ()
    assert view.title.endswith(", in the hand: watch 2")
