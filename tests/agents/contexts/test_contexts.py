"""Contexts after play, as functions of finished groups."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from helpers.told_episodes import Answers, Words, told_episode

import sdar_envs
from sdar_agents import OracleAgent, RandomAgent, Rollout, RolloutSettings, ScriptedPolicy
from sdar_agents.contexts import CONTEXTS, Review, View, make_context
from sdar_agents.contexts.asking import ask_objects, read_object
from sdar_agents.contexts.base import Cost
from sdar_agents.contexts.controls import ControlledContext
from sdar_agents.contexts.inserting import insert_views
from sdar_agents.contexts.spans import action_span, returns_to_go
from sdar_envs.errors import InvalidOption, UnknownName
from sdar_envs.registry import make_text_env
from sdar_skills.context import ContextTooLong
from sdar_skills.retrieval.controls import neutral_text

LOST = told_episode("a", ["look", "go"])
WON = told_episode("b", ["take", "put", "stop"], success=True)
SHORT = told_episode("c", ["win"], success=True)
NOBODY = Answers()


def review(name: str, *groups: Any, ask: Any = NOBODY, **options: Any) -> Review:
    return make_context(name, options).review(groups, ask, step=3, seed=5)


def texts(found: Review, episode: Any) -> list[str | None]:
    """The second paragraph of the first view of each turn."""
    views = [found.views.get((episode.episode_id, index)) for index in range(len(episode.turns))]
    return [None if view is None or view[0] is None else view[0].paragraphs[1] for view in views]


# -- successful sibling -----------------------------------------------------------------------


def test_a_sibling_is_another_success_of_the_group() -> None:
    found = review("sibling", [LOST, WON, SHORT])
    actions = "1. take\n2. put\n3. stop"
    assert texts(found, LOST) == [actions, actions]
    assert texts(found, WON) == ["1. win"] * 3  # never its own sibling
    assert texts(found, SHORT) == [actions]
    assert found.metrics == {"episodes_without_sibling": 0.0}
    assert {view.after for views in found.views.values() for view in views if view} == {"task"}


def test_without_another_success_there_is_no_teacher() -> None:
    found = review("sibling", [LOST, WON], [told_episode("d", ["x"], task="cup")])
    assert set(found.views) == {(LOST.episode_id, 0), (LOST.episode_id, 1)}
    assert found.metrics == {"episodes_without_sibling": 2.0}


def test_options_of_the_sibling() -> None:
    assert texts(review("sibling", [LOST, WON, SHORT], choose="shortest"), LOST) == ["1. win"] * 2
    assert texts(review("sibling", [LOST, WON, SHORT], only_failed=True), WON) == [None] * 3
    [told, _] = texts(review("sibling", [LOST, SHORT], observations=True), LOST)
    assert told == "Turn 1, observation: c sees 0\nTurn 1, action: win\nAt the end: c is done"


# -- own future -------------------------------------------------------------------------------


def test_the_future_is_what_the_episode_showed_later() -> None:
    found = review("future", [WON], turns=2)
    shown = [found.views[WON.episode_id, index][0] for index in range(3)]
    assert [view.paragraphs[1:] for view in shown if view] == [
        ("After turn 1: b sees 1", "After turn 2: b sees 2"),
        ("After turn 2: b sees 2", "After turn 3: b is done"),
        ("After turn 3: b is done",),
    ]
    assert all(view is not None and view.after == "history" for view in shown)
    assert len(review("future", [WON], turns=None).views[WON.episode_id, 0][0].paragraphs) == 4  # type: ignore[union-attr]


def test_the_blanked_view_differs_in_the_observations_alone() -> None:
    found = review("future_blanked", [WON], turns=2)
    full, blanked = found.views[WON.episode_id, 0]
    assert full == review("future", [WON], turns=2).views[WON.episode_id, 0][0]
    assert blanked is not None
    assert blanked.paragraphs[1:] == ("After turn 1: (not shown)", "After turn 2: (not shown)")
    assert full is not None
    assert (blanked.paragraphs[0], blanked.after) == (full.paragraphs[0], full.after)
    assert make_context("future_blanked", {}).view_count == 2  # type: ignore[attr-defined]


# -- analyst ----------------------------------------------------------------------------------


def skills(**fields: Any) -> str:
    return json.dumps({"summary": "s", "episode_skill": "Look first.", "step_skills": {"2": "Put it."}, **fields})


def test_a_turn_with_advice_of_its_own_reads_that_alone() -> None:
    ask = Answers(skills(), skills(step_skills={}))
    found = review("analyst", [WON, LOST], ask=ask)
    assert texts(found, WON) == ["Look first.", "Put it.", "Look first."]
    assert [found.views[WON.episode_id, i][0].after for i in range(3)] == ["task", "history", "task"]  # type: ignore[union-attr]
    assert texts(found, LOST) == ["Look first."] * 2
    assert found.metrics == {"failures": 0.0, "asked": 2.0, "step_skills": 1.0}
    told = ask.asked[0][0][0]["content"]
    assert "Find the mug." in told
    assert "which was solved" in told
    assert "Turn 3, action: stop\nAt the end: b is done" in told
    assert "which was not solved" in ask.asked[0][1][0]["content"]


def test_both_texts_are_two_views() -> None:
    found = review("analyst", [WON], ask=Answers(skills()), routing="both")
    assert [len(views) for views in found.views.values()] == [2, 2, 2]
    assert [views[1] is None for views in found.views.values()] == [True, False, True]
    assert make_context("analyst", {"routing": "both"}).view_count == 2  # type: ignore[attr-defined]


def test_a_bad_answer_is_asked_for_again_and_then_is_a_missing_view() -> None:
    ask = Answers("no", skills(), skills(episode_skill=" "))
    found = review("analyst", [WON, LOST], ask=ask)
    assert texts(found, WON) == [None] * 3
    assert texts(found, LOST) == ["Look first.", "Put it."]
    assert found.metrics["failures"] == 1.0
    [again] = ask.asked[1]
    assert [message["role"] for message in again] == ["user", "assistant", "user"]
    assert again[1]["content"] == "no"
    assert "there is no JSON object in 'no'" in again[2]["content"]
    assert len(set(ask.seeds)) == 2


@pytest.mark.parametrize(
    "answer",
    [
        None,
        "[1]",
        '{"episode_skill": 3}',
        skills(step_skills=["x"]),
        skills(step_skills={"two": "x"}),
        skills(step_skills={"2": 5}),
        "{" * 500,
        '{"episode_skill": "x", ',
        "<think>" + skills(),
    ],
)
def test_nonsense_is_no_error(answer: str | None) -> None:
    found = review("analyst", [WON], ask=Answers(answer), attempts=1)
    if answer is not None and "<think>" in answer:
        assert found.metrics["failures"] == 0.0  # an open thought before an object is read
        return
    assert (dict(found.views), found.metrics["failures"]) == ({}, 1.0)


def test_limits_of_the_analyst() -> None:
    many = {str(turn): f"advice {turn}" for turn in range(1, 9)}
    found = review("analyst", [WON], ask=Answers(skills(step_skills=many)), step_skills=2)
    assert texts(found, WON) == ["advice 1", "advice 2", "Look first."]
    ask = Answers(skills())
    assert set(review("analyst", [WON, LOST], ask=ask, only="failed").views) == {
        (LOST.episode_id, 0),
        (LOST.episode_id, 1),
    }
    assert len(ask.asked[0]) == 1


def test_a_transcript_that_is_too_long_loses_its_oldest_turns() -> None:
    ask = Answers(skills(), fits=lambda text: "Turn 1" not in text)
    review("analyst", [WON], ask=ask)
    [[[message]]] = ask.asked
    assert "(1 earlier turns are left out)\nTurn 2, observation: b sees 1" in message["content"]
    ask = Answers(None, fits=lambda text: False)
    review("analyst", [WON], ask=ask, attempts=1)
    assert "(3 earlier turns are left out)\nAt the end" in ask.asked[0][0][0]["content"]


def test_an_object_may_stand_in_other_text() -> None:
    assert read_object('<think>{"a": 0}</think>Here:\n```json\n{"a": {"b": 1}}\n```') == {"a": {"b": 1}}
    with pytest.raises(ValueError, match="it is not JSON"):
        read_object("{a}")
    assert ask_objects(Answers(), [], dict, attempts=3, seed=0) == []


# -- reflection -------------------------------------------------------------------------------


def test_reflections_of_both_outcomes_become_two_lists() -> None:
    ask = Answers('{"points": ["a1"]}', '{"points": ["b1", "b2"]}', '{"do": ["take"], "avoid": ["wait", "sleep"]}')
    alone = [told_episode("d", ["x"], task="cup")]
    found = review("reflection", alone, [LOST, WON], ask=ask)
    lists = ("Do:\n1. take", "Avoid:\n1. wait\n2. sleep")
    assert {views[0].paragraphs[1:] for views in found.views.values() if views[0]} == {lists}
    assert set(found.views) == {(e.episode_id, i) for e in (LOST, WON) for i in range(len(e.turns))}
    assert found.metrics == {"failures": 0.0, "asked": 3.0, "groups_with_both_outcomes": 1.0}
    merged = ask.asked[1][0][0]["content"]
    assert "Notes on attempts that solved it:\n1. b1\n2. b2" in merged
    assert "Notes on attempts that did not:\n1. a1" in merged
    # The observations, which the released code cuts off.
    assert "a sees 1" in ask.asked[0][0][0]["content"]


def test_a_group_without_a_reflection_on_one_side_has_no_teacher() -> None:
    found = review("reflection", [LOST, WON], ask=Answers("no", '{"points": ["b1"]}'), attempts=1)
    assert dict(found.views) == {}
    assert found.metrics["failures"] == 1.0
    found = review(
        "reflection", [LOST, WON], ask=Answers(*['{"points": ["x"]}'] * 2, '{"do": [], "avoid": []}'), attempts=1
    )
    assert dict(found.views) == {}


# -- expert -----------------------------------------------------------------------------------


@pytest.mark.parametrize("env_id", sdar_envs.ENV_IDS)
def test_the_expert_goes_on_from_the_state_of_each_turn(env_id: str) -> None:
    settings = RolloutSettings(env_id, {"max_steps": 4})
    tasks = sdar_envs.tasks(env_id, split="train", limit=1)
    made: list[Any] = []

    def make_env() -> Any:
        made.append(make_text_env(env_id, max_steps=4))
        return made[-1]

    for agent in (OracleAgent, RandomAgent):
        played = Rollout(settings, ScriptedPolicy(agent)).collect(tasks, group_size=1, seed=5, step=1).trajectories
        context = make_context("expert", {"show": "next"}, {"make_env": make_env})
        found = context.review([played], NOBODY, step=1, seed=5)
        [episode] = played
        assert found.metrics == {"unsolvable": 0.0, "failures": 0.0}
        assert found.cost == Cost(environment_steps=len(episode.turns) - 1)
        if agent is OracleAgent:
            given = [turn.action.lower() for turn in episode.turns]
            assert [str(text).lower() for text in texts(found, episode)] == given
        else:
            assert len(found.views) == len(episode.turns)
    assert len(made) == 2


def test_an_expert_shows_a_plan_or_its_end() -> None:
    [task] = sdar_envs.tasks("sdar/SearchQA-v0", split="train", limit=1)
    policy = ScriptedPolicy(OracleAgent)
    played = (
        Rollout(RolloutSettings("sdar/SearchQA-v0"), policy).collect([task], group_size=1, seed=0, step=1).trajectories
    )
    given = {"make_env": lambda: make_text_env("sdar/SearchQA-v0")}
    plans = [
        texts(make_context("expert", {"show": show}, given).review([played], NOBODY, step=1, seed=0), played[0])[0]
        for show in ("plan", "last")
    ]
    actions = [turn.action for turn in played[0].turns]
    assert plans == ["\n".join(f"{n}. {action}" for n, action in enumerate(actions, 1)), actions[-1]]


def test_an_episode_that_reads_otherwise_the_second_time_has_no_expert() -> None:
    settings = RolloutSettings("sdar/ALFWorld-v0", {"max_steps": 3})
    tasks = sdar_envs.tasks("sdar/ALFWorld-v0", split="train", limit=1)
    [episode] = Rollout(settings, ScriptedPolicy(RandomAgent)).collect(tasks, group_size=1, seed=0, step=1).trajectories
    changed = replace(episode, turns=(episode.turns[0], replace(episode.turns[1], observation="?"), episode.turns[2]))
    given = {"make_env": lambda: make_text_env("sdar/ALFWorld-v0", max_steps=3)}
    found = make_context("expert", {}, given).review([[changed]], NOBODY, step=1, seed=0)
    assert set(found.views) == {(episode.episode_id, 0)}
    assert found.metrics["failures"] == 2.0


def test_an_environment_without_an_expert_is_refused() -> None:
    class NoOracle:
        def reset(self, **_: Any) -> None: ...

        def oracle_plan(self) -> None:
            raise UnknownName("toy has no oracle.")

    context = make_context("expert", {}, {"make_env": NoOracle})
    with pytest.raises(UnknownName, match="no oracle"):
        context.check([WON.task])  # type: ignore[attr-defined]


# -- pairs ------------------------------------------------------------------------------------


def both_prompts(episode: Any, *, with_skills: bool) -> Any:
    """The episode of a branch: its own prompts are (1, ...) with skills and (0, ...) without; one observation."""
    turns = tuple(
        replace(
            turn,
            observation="here",
            prompt_ids=(int(with_skills), index),
            teacher_prompt_ids=(int(not with_skills), index),
            skill_ids=("s@1",) if with_skills else (),
        )
        for index, turn in enumerate(episode.turns)
    )
    return replace(episode, turns=turns)


def pairs(*group: Any, **options: Any) -> Any:
    given = {"decode": lambda ids: "".join(chr(96 + i) for i in ids)}
    return make_context("pairs", options, given).review([group], NOBODY, step=1, seed=0)


def test_the_better_answer_teaches_the_prompt_of_the_other_branch() -> None:
    won = both_prompts(told_episode("w", ["x"], success=True), with_skills=True)
    lost = both_prompts(told_episode("l", ["y"]), with_skills=False)
    peer = both_prompts(told_episode("p", ["z"]), with_skills=True)
    found = pairs(lost, won, peer)
    assert dict(found.views) == {}
    assert [(row.prompt_ids, row.teacher_prompt_ids) for row in found.extra_rows] == [((0, 0), (1, 0))] * 2
    row = found.extra_rows[0]
    assert (row.is_trained, row.teacher_weight, row.response_ids) == (False, 2.0, won.turns[0].completion.token_ids)
    assert (row.group_id, row.sampler_logprobs, row.token_weights) == (won.group_id, None, (1.0, 1.0, 1.0))
    # Rows of their own episodes: statistics by episode are those of what was played.
    assert len({won.episode_id, lost.episode_id, peer.episode_id, *(r.episode_id for r in found.extra_rows)}) == 5
    # The returns the other way round, the direction the other way round.
    swapped = [both_prompts(replace(told_episode(n, ["x"], success=n == "l")), with_skills=n == "w") for n in "wl"]
    [row] = pairs(*swapped).extra_rows
    assert (row.prompt_ids, row.teacher_prompt_ids) == ((1, 0), (0, 0))


def test_returns_make_weights_and_margins() -> None:
    group = [
        both_prompts(told_episode("w", ["x"], rewards=[1.0]), with_skills=True),
        both_prompts(told_episode("l", ["y"], rewards=[0.9]), with_skills=False),
        both_prompts(told_episode("m", ["y"], rewards=[0.96]), with_skills=False),
    ]
    [row] = pairs(*group).extra_rows  # 0.04 is no more than the margin
    assert row.teacher_weight == pytest.approx(0.5)
    assert [row.teacher_weight for row in pairs(*group, margin=0.0).extra_rows] == pytest.approx([0.5, 0.2])
    assert len(pairs(*group, margin=0.0, most=1).extra_rows) == 1
    assert pairs(group[0]).extra_rows == []
    malformed = replace(group[1], turns=(replace(group[1].turns[0], is_well_formed=False),))
    assert pairs(group[0], malformed).extra_rows == []
    unfitting = replace(
        group[1], turns=(replace(group[1].turns[0], prompt_ids=(9,), teacher_prompt_ids=None, skill_ids=("s",)),)
    )
    assert pairs(group[0], unfitting).extra_rows == []


def test_returns_to_go_and_the_tokens_of_a_command() -> None:
    assert returns_to_go([1.0, 0.0, 2.0], 0.5) == [1.5, 1.0, 2.0]
    pieces = ["<think>", "a</think>\n<act", "ion>go", "</action>", "\n"]
    assert action_span(range(5), lambda ids: "".join(pieces[i] for i in ids)) == (1, 4)
    assert action_span(range(3), lambda ids: "".join(pieces[i] for i in ids)) == (0, 0)


# -- prompts ----------------------------------------------------------------------------------


def insert(views: Any, limit: int | None = None, view_count: int = 1) -> Any:
    return insert_views(Review(views), [WON, LOST], Words(), view_count=view_count, max_tokens=limit)


def test_views_are_inserted_within_the_limit_and_never_cut() -> None:
    key = (WON.episode_id, 2)
    view = View(("one two", "three"), "history", 0.5)
    prompts, metrics = insert({key: (view,)})
    parts = WON.turns[2].parts
    assert parts is not None
    whole = Words().encode(parts.messages(view.paragraphs, "history")[0]["content"])
    assert (prompts[key].first, prompts[key].more, prompts[key].weight) == (whole, (), 0.5)
    assert metrics == {
        "views": 1.0,
        "missing": 4.0,
        "misfits": 0.0,
        "shrunk_prompts": 0.0,
        "dropped_turns": 0.0,
        "prompt_tokens": float(len(whole)),
    }
    less, metrics = insert({key: (view,)}, limit=len(whole) - 1)
    assert metrics["dropped_turns"] == 1.0
    assert len(less[key].first) == len(
        Words().encode(replace(parts, history_length=1).messages(view.paragraphs)[0]["content"])
    )
    long = View(("word " * 500,))
    with pytest.warns(RuntimeWarning, match="1 contexts do not fit into a teacher's prompt of 300 tokens"):
        some, metrics = insert({key: (view,), (LOST.episode_id, 0): (long,)}, limit=300)
    assert (set(some), metrics["misfits"], metrics["missing"]) == ({key}, 1.0, 4.0)
    with pytest.raises(ContextTooLong, match=r"raise context\.max_prompt_tokens"):
        insert({key: (long,)}, limit=300)


def test_the_second_view_may_be_missing_and_the_first_may_not() -> None:
    key, view = (WON.episode_id, 0), View(("x",))
    prompts, _ = insert({key: (view, None), (WON.episode_id, 1): (None, view)}, view_count=2)
    assert set(prompts) == {key}
    assert prompts[key].more == (None,)


@pytest.mark.parametrize(
    ("views", "words"),
    [
        ({("nobody", 0): (View(("x",)),)}, "is no turn of this step"),
        ({(WON.episode_id, 0): View(("x",))}, "wanted a tuple of 1 to 1 views"),
        ({(WON.episode_id, 0): (View(("x",)),) * 2}, "wanted a tuple of 1 to 1 views"),
        ({(WON.episode_id, 0): (View("x"),)}, "a tuple of texts"),  # type: ignore[arg-type]
        ({(WON.episode_id, 0): (View(("x",), weight=-1.0),)}, "weight from 0"),
        ({(WON.episode_id, 0): (View(("x",), after="end"),)}, "after 'task' or 'history'"),  # type: ignore[arg-type]
    ],
)
def test_what_is_no_review_is_refused(views: Any, words: str) -> None:
    with pytest.raises(InvalidOption, match=words):
        insert(views)


# -- controls ---------------------------------------------------------------------------------


def count(text: str) -> int:
    return len(text.split())


def controlled(control: Any, *groups: Any) -> Review:
    context = ControlledContext(make_context("sibling", {}), control, count_tokens=count)
    return context.review(groups, NOBODY, step=1, seed=0)


def test_empty_and_neutral_contexts_keep_the_heading_and_the_place() -> None:
    plain = review("sibling", [LOST, WON])
    for control in ("empty-skills", "neutral-text"):
        found = controlled(control, [LOST, WON])
        assert set(found.views) == set(plain.views)
        for key, (view,) in found.views.items():
            [own] = plain.views[key]
            assert view is not None
            assert own is not None
            assert (view.paragraphs[0], view.after, view.weight) == (own.paragraphs[0], own.after, own.weight)
            said = view.paragraphs[1:]
            assert said == () if control == "empty-skills" else count(said[0]) == count(own.paragraphs[1])


def test_wrong_contexts_are_those_of_another_task() -> None:
    other = [told_episode("x", ["wait"], task="cup"), told_episode("y", ["eat"], success=True, task="cup")]
    found = controlled("wrong-skills", [LOST, WON], other)
    assert texts(found, LOST) == ["1. eat"] * 2
    assert texts(found, other[0]) == ["1. take\n2. put\n3. stop"]
    same_task = [replace(episode, group_id="1/mug#2", episode_id=f"{episode.episode_id}#2") for episode in (LOST, WON)]
    assert dict(controlled("wrong-skills", [LOST, WON], same_task).views) == {}


@pytest.mark.parametrize("tokens", [0, 1, 7, 300])
def test_a_neutral_text_is_as_long_as_what_it_replaces(tokens: int) -> None:
    assert count(neutral_text(tokens, count)) == tokens
    longest = len(neutral_text(tokens, len))
    assert tokens - 10 <= longest <= tokens


# -- names ------------------------------------------------------------------------------------


def test_contexts_by_name() -> None:
    assert list(CONTEXTS) == ["sibling", "future", "future_blanked", "analyst", "reflection", "expert", "pairs"]
    with pytest.raises(
        UnknownName, match=r"no context 'siblin'; there is library, sibling, .*Did you mean 'sibling'\?"
    ):
        make_context("siblin", {})
    with pytest.raises(UnknownName, match=r"no option 'chose'; it has choose, observations, only_failed\. Did you"):
        make_context("sibling", {"chose": "first"})
    with pytest.raises(InvalidOption, match=r"choose is 'last'; wanted one of first, shortest"):
        make_context("sibling", {"choose": "last"})
    with pytest.raises(UnknownName, match="no option 'make_env'; it has show"):
        make_context("expert", {"make_env": 1}, {"make_env": object})
    with pytest.raises(UnknownName, match=r"is no context: it has no method review"):
        make_context("helpers.told_episodes:Answers", {})
    with pytest.raises(UnknownName, match="is a function; wanted a class"):
        make_context("helpers.told_episodes:told_episode", {})
