"""Skill proposals: training episodes only, unique ids, no duplicates."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import pytest

from sdar_envs import Task
from sdar_envs.errors import InvalidOption
from sdar_skills.evidence.experience import (
    Draft,
    Episode,
    HeldOutEpisode,
    Step,
    propose,
    similarity,
)
from sdar_skills.evidence.proposers import TemplateProposer
from sdar_skills.library.skill import Skill


def episode(
    name: str, actions: str, *, won: bool = True, kind: str = "pick", run: str = "run-1", split: str = "train"
) -> Episode:
    task = Task(f"alfworld/{split}/{name}", "sdar/ALFWorld-v0", split, kind, f"put a mug in drawer {name}")
    steps = tuple(Step("You see things.", action, not action.startswith("?")) for action in actions.split("; "))
    return Episode(name, run, task, steps, won)


WAY = (
    "go to shelf 1; take mug 2 from shelf 1; ?dance; go to drawer 1; go to drawer 3; open drawer 3; "
    "move mug 2 to drawer 3"
)


@dataclasses.dataclass
class Scribe:
    """Writes what it is told to, and remembers what it read."""

    texts: Sequence[str]
    is_general: bool = False
    name: str = "scribe"
    read: list[tuple[list[str], list[str]]] = dataclasses.field(default_factory=list)

    def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> list[Draft]:
        self.read.append(([one.id for one in episodes], [one.name for one in known]))
        return [Draft("Open First!", "Says to open.", text, self.is_general, tuple(episodes)) for text in self.texts]


# -- proposing --------------------------------------------------------------------------------


def test_the_template_writes_down_the_shortest_way() -> None:
    episodes = [episode("long", WAY + "; look; look"), episode("short", WAY), episode("lost", "look", won=False)]
    (skill,) = propose(episodes, TemplateProposer(), []).skills
    assert skill.text == (
        'These actions, in this order, solved "put a mug in drawer short":\n\n'
        "1. go to shelf\n2. take mug from shelf\n3. go to drawer\n4. open drawer\n5. move mug to drawer"
    )
    assert (skill.suite, skill.task_type, skill.status, skill.version) == ("alfworld", "pick", "shadow", "1.0.0")
    assert (skill.origin, skill.created_by) == ("run run-1, episodes short", "template")
    assert skill.metadata == {"split": "train"}
    assert skill.name.startswith("a-way-through-pick-")
    assert propose(reversed(episodes), TemplateProposer(), []).skills == (skill,)


def test_the_template_has_nothing_to_say_about_failures() -> None:
    assert propose([episode("a", "look", won=False)], TemplateProposer(), []) == ((), ())


@pytest.mark.parametrize("split", ["valid_unseen", "test", "valid_seen"])
def test_an_episode_that_is_not_of_training_is_refused(split: str) -> None:
    scribe = Scribe(["Open it."])
    with pytest.raises(
        HeldOutEpisode, match=rf"episode 'b' of run 'run-1' played 'alfworld/{split}/b'.* of 'train' only"
    ):
        propose([episode("a", "look"), episode("b", "look", split=split)], scribe, [])
    assert scribe.read == []
    # Calling it training does not help: the task's id says what it was.
    honest = episode("b", "look", split=split)
    renamed = dataclasses.replace(honest, task=dataclasses.replace(honest.task, split="train"))
    with pytest.raises(HeldOutEpisode):
        propose([renamed], scribe, [])


def test_a_proposer_reads_one_task_type_at_a_time_and_what_is_known() -> None:
    general = Skill("look", "alfworld", None, "d", "Look around before you go anywhere.")
    heat = Skill("heat", "alfworld", "heat", "d", "Heat with the microwave.")
    shop = Skill("shop", "webshop", None, "d", "Search first.")
    scribe = Scribe(["Open what is closed, then look inside."])
    found = propose(
        [episode("b", "look"), episode("c", "look", kind="heat"), episode("a", "look", won=False)],
        scribe,
        [general, heat, shop],
    )
    assert scribe.read[0] == (["c"], ["look", "heat"])
    assert scribe.read[1][0] == ["a", "b"]
    # The second draft says what the first one does.
    (skill,) = found.skills
    assert skill.task_type == "heat"
    assert found.dropped == (("Open First!", f"the text of {skill.id} (shadow) is the same"),)


def test_names_come_from_the_content_and_never_collide() -> None:
    texts = ["Open drawers before you look.", "Take the mug with both hands.", "Never sit on the hot stove again."]
    first = propose([episode("a", "look")], Scribe(texts), []).skills
    assert len({skill.name for skill in first}) == 3
    assert all(skill.name.startswith("open-first-") and len(skill.name) == 19 for skill in first)
    # Another run, another order: the same content has the same name.
    again = propose([episode("z", "look", run="run-2")], Scribe(texts[::-1]), []).skills
    assert [skill.name for skill in again] == [skill.name for skill in first[::-1]]
    assert again[0].origin == "run run-2, episodes z"
    general = propose([episode("a", "look")], Scribe(texts[:1], is_general=True), []).skills
    assert general[0].task_type is None
    assert general[0].name != first[0].name


def test_episodes_of_several_runs_are_told_apart() -> None:
    scribe = Scribe(["Open it."])
    (skill,) = propose([episode("a", "look"), episode("a", "look", run="run-2")], scribe, []).skills
    assert skill.origin == "run run-1, episodes a; run run-2, episodes a"
    with pytest.raises(InvalidOption, match="two episodes of run 'run-1' have the id 'a'"):
        propose([episode("a", "look"), episode("a", "go")], scribe, [])


def test_what_is_known_is_not_proposed_again_even_if_it_was_retired() -> None:
    text = "Open the drawer, look inside, take the mug, close the drawer, walk to the shelf and put it there again."
    known = Skill("old", "alfworld", "pick", "d", text, status="retired")
    other_suite = Skill("theirs", "webshop", None, "d", text)
    near = text.replace("again", "gently")
    far = "Heat food with the microwave; its door must be closed."
    found = propose([episode("a", "look")], Scribe([f"  {text}\n", near, far]), [known, other_suite])
    assert [skill.text for skill in found.skills] == [far]
    assert [why for _, why in found.dropped] == [
        "the text of alfworld/old (retired) is the same",
        f"alfworld/old (retired) shares {similarity(text, near):.0%} of its terms",
    ]
    assert propose([episode("a", "look")], Scribe([near]), [known], max_similarity=0.95).skills


def test_similarity_by_hand() -> None:
    # Terms: open, drawer, look against open, drawer, mug: 2 of 4.
    assert similarity("Open the drawers and look", "opened a drawer; mug") == 0.5
    assert similarity("a b", "a b") == 1.0
    assert similarity("the", "the") == 1.0
    assert similarity("the", "of") == 0.0
    assert similarity("", "mug") == 0.0


def test_drafts_that_are_none_are_dropped() -> None:
    class Careless(Scribe):
        def propose(self, episodes: Sequence[Episode], known: Sequence[Skill]) -> list[Draft]:
            every = tuple(episodes)
            return [
                Draft("a", "d", " \n", False, every),
                Draft("b", " ", "Text.", False, every),
                Draft("c", "d" * 1025, "Text.", False, every),
                Draft("d", "d", "Text.", False, ()),
                Draft("!" * 90, "d", "Text that is fine.", False, every),
                Draft("word " * 90, "d", "Another text altogether.", False, every),
            ]

    found = propose([episode("a", "look")], Careless([]), [])
    assert [why.partition(";")[0] for _, why in found.dropped] == [
        "its text is empty",
        "its description is empty",
        "its description has 1025 characters",
        "it names no episode that it comes from",
    ]
    assert found.skills[0].name.startswith("skill-")
    assert len(found.skills[1].name) <= 64


# -- revising ---------------------------------------------------------------------------------
