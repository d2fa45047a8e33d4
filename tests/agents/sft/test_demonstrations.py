"""Demonstrations: what is shown is what a policy would read, and what the expert did wins."""

from __future__ import annotations

import itertools
import json
import random
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.tiny_models import tiny_policy
from helpers.toy import CountingEnv

import sdar_envs
from sdar_agents.baselines.scripted import ExplorerAgent, default_agent
from sdar_agents.engines.policy import Request
from sdar_agents.rollout.rollout import Rollout, RolloutSettings
from sdar_agents.sft.demonstrations import (
    Demonstration,
    DemonstrationSettings,
    DemonstrationTally,
    demonstrate,
    row_line,
    write_demonstrations,
)
from sdar_agents.sft.examples import check_row, encode_rows, micro_batches
from sdar_agents.sft.settings import SFTSettings
from sdar_agents.sft.thoughts import shopping_thought
from sdar_agents.skill_use.prompts import SkillPrompts
from sdar_agents.types import Completion, make_rows
from sdar_envs.alfworld.generator import room_habits
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName
from sdar_envs.prompt import PromptStyle, Turn, parse_completion, style_for
from sdar_envs.registry import make_text_env
from sdar_skills import Library, make_retriever

ALFWORLD = "sdar/ALFWorld-v0"
SMALL = {"rooms": "small", "max_steps": 30}


def episodes(**given: Any) -> list[list[dict[str, Any]]]:
    base: dict[str, Any] = {"env_id": ALFWORLD, "env_kwargs": SMALL, "episodes": 30, "guesses": True, "terse": True}
    base |= {"noise": 0.0, "again": False}
    return [played.rows for played in demonstrate(DemonstrationSettings(**{**base, **given}))]


def action(row: dict[str, Any]) -> str:
    parsed = parse_completion(row["completion"], style_for(row["task_id"].partition("/")[0]))
    assert parsed.is_well_formed
    return parsed.action


def test_the_shown_actions_win_and_are_in_the_prompt() -> None:
    env = sdar_envs.make_vec(ALFWORLD, 1, **SMALL).envs[0]
    for rows in episodes():
        _, info = env.reset(options={"task_id": rows[0]["task_id"]})
        for turn, row in enumerate(rows):
            assert row["turn"] == turn
            assert action(row) in info["admissible_commands"]
            assert f"\n{action(row)}" in row["messages"][-1]["content"]
            *_, info = env.step(action(row))
        assert info["is_success"]


class Reciter:
    """A policy that says what the rows say, and keeps what it was asked."""

    context_length = None

    def __init__(self, rows: list[dict[str, Any]]) -> None:
        self.completions = [row["completion"] for row in rows]
        self.asked: list[Any] = []

    def render(self, messages: Any) -> str:
        return "\n".join(message["content"] for message in messages)

    def encode(self, text: str) -> tuple[int, ...]:
        return tuple(text.encode())

    def generate(self, requests: Any, sampling: Any) -> list[Completion]:
        request: Request
        (request,) = requests
        text = self.completions[len(self.asked)]
        self.asked.append(list(request.messages))
        return [Completion((1,), None, text, "eos")]


@pytest.mark.parametrize("history_length", [0, 2])
@pytest.mark.parametrize("with_skills", [False, True])
@pytest.mark.parametrize("terse", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        {"env_id": ALFWORLD, "env_kwargs": SMALL, "retriever": "home"},
        {"env_id": ALFWORLD, "expert": "oracle", "k": 3},
        {"env_id": "sdar/WebShop-v0", "k": 3, "first": 4},
        {"env_id": "sdar/SearchQA-v0", "expert": "oracle", "k": 3},
        {"env_id": "sdar/SearchQA-v0", "env_kwargs": {"corpus": "facts"}, "k": 3},
    ],
)
def test_a_row_is_what_a_rollout_asks_a_policy(
    given: dict[str, Any], terse: bool, with_skills: bool, history_length: int
) -> None:
    shown = DemonstrationSettings(
        **given, episodes=3, with_skills=float(with_skills), terse=terse, history_length=history_length, noise=0.0
    )
    skills = None
    if with_skills:
        skills = SkillPrompts(make_retriever(shown.retriever, Library.load()), reader="student", k=shown.k)
    settings = RolloutSettings(shown.env_id, shown.env_kwargs, terse=terse, history_length=history_length)
    source = sdar_envs.make_vec(shown.env_id, 1, **shown.env_kwargs).envs[0].source
    played = [demonstration.rows for demonstration in demonstrate(shown) if demonstration.rows]
    assert played
    for rows in played:
        policy = Reciter(rows)
        rollout = Rollout(settings, policy, skills=skills)
        result = rollout.collect([source.find(rows[0]["task_id"])], group_size=1, seed=7, step=3)
        assert policy.asked == [row["messages"] for row in rows]
        (trajectory,) = result.trajectories
        assert trajectory.success
        assert all(turn.is_action_valid for turn in trajectory.turns)
        assert [list(turn.skill_ids) for turn in trajectory.turns] == [row["skills"] for row in rows]
        assert all(bool(row["skills"]) == with_skills for row in rows)
        assert {row["expert"] for row in rows} == {
            shown.expert or ("oracle" if "SearchQA" in shown.env_id else default_agent(shown.env_id))
        }


def test_every_name_in_a_thought_stands_in_the_prompt() -> None:
    for rows in episodes(with_skills=0.5, noise=0.2, retriever="home"):
        for row in rows:
            thought = row["completion"].split("</think>")[0]
            for name in re.findall(r"\b[a-z]+ \d\b", thought):
                assert name in row["messages"][-1]["content"], (row["task_id"], row["turn"], thought)


def test_what_is_seen_and_held_is_true() -> None:
    for rows in episodes(noise=0.2):
        for row in rows:
            commands = row["messages"][-1]["content"].split("Commands you can give now:\n")[1].splitlines()
            thought = row["completion"]
            if "I hold nothing" in thought:
                assert not any(command.startswith(("move ", "heat ", "cool ", "clean ")) for command in commands)
            elif held := re.search(r"I hold ([a-z]+ \d+)", thought):
                assert f"examine {held[1]}" in commands
            if seen := re.search(r"I see ([a-z]+ \d+)", thought):
                assert any(seen[1] in command for command in commands)


def test_with_skills_the_first_look_is_where_the_skill_says_and_without_it_is_a_guess() -> None:
    def first_looks(with_skills: float) -> list[bool]:
        hits = []
        for rows in episodes(with_skills=with_skills, retriever="home", episodes=150):
            task = sdar_envs.make_vec(ALFWORLD, 1, **SMALL).envs[0].source.find(rows[0]["task_id"])
            look = re.search(r"Search: (\w+) (\w+) ", rows[0]["completion"])
            if look and look[1] in (habits := room_habits(task.data["layout"])):
                assert bool(rows[0]["skills"]) == (
                    f"- {look[1]}: {habits[look[1]]}" in rows[0]["messages"][0]["content"].lower()
                )
                hits.append(habits[look[1]] == look[2])
        return hits

    told, guessing = first_looks(1.0), first_looks(0.0)
    assert sum(told) / len(told) > 0.95
    assert sum(guessing) / len(guessing) < 0.5


def test_without_skills_the_order_of_the_search_is_drawn() -> None:
    looks = [[action(rows[0]) for rows in episodes(seed=seed)] for seed in range(2)]
    assert sum(one != other for one, other in zip(*looks, strict=True)) > 5
    # Who does not guess looks where things usually are, whatever the seed.
    assert episodes(guesses=False) == episodes(guesses=False, seed=1)


def test_noise_is_as_frequent_as_was_asked() -> None:
    played = [rows for rows in episodes(noise=0.3, episodes=150) if rows]
    turns = sum(rows[-1]["turn"] + 1 for rows in played)
    # The last turn of a won episode is mostly the expert's.
    assert 0.22 < 1 - sum(map(len, played)) / turns < 0.32


def test_noise_is_not_shown_as_an_example_but_in_the_history() -> None:
    rows = [row for episode in episodes(noise=0.3, episodes=60) for row in episode]
    histories = "\n".join(row["messages"][-1]["content"] for row in rows)
    assert "Nothing happens." in histories
    shown = [(row["task_id"], row["turn"]) for row in rows]
    last = {task: max(turn for other, turn in shown if other == task) for task, _ in shown}
    assert len(shown) < sum(turn + 1 for turn in last.values())
    assert not any(action(row) in ("look", "inventory") for row in rows if row["turn"] == 0)


@pytest.mark.parametrize(("env_id", "expert"), [("sdar/WebShop-v0", None), ("sdar/SearchQA-v0", "oracle")])
def test_noise_fills_templates(env_id: str, expert: str | None) -> None:
    found = episodes(
        env_id=env_id, env_kwargs={}, episodes=30, expert=expert, noise=0.5, guesses=False, history_length=9
    )
    text = "\n".join(row["messages"][-1]["content"] for rows in found for row in rows)
    actions = re.findall(r"^Turn \d+, action: (.*)", text, flags=re.MULTILINE)
    assert len(actions) > 20
    assert not any("<your" in action for action in actions)


def test_equal_settings_give_equal_rows_and_the_seed_matters() -> None:
    mixed = {"noise": 0.2, "with_skills": 0.5, "retriever": "home"}
    assert episodes(**mixed) == episodes(**mixed)
    assert episodes(**mixed) != episodes(**mixed, seed=1)
    assert episodes(**mixed, first=10, episodes=5) == episodes(**mixed, episodes=15)[10:]


@pytest.mark.parametrize(
    ("env_id", "expert"), [("sdar/WebShop-v0", None), ("sdar/SearchQA-v0", "oracle"), (ALFWORLD, "oracle")]
)
def test_every_suite_can_be_demonstrated(env_id: str, expert: str | None) -> None:
    found = episodes(
        env_id=env_id, env_kwargs={}, episodes=3, expert=expert, with_skills=0.5, guesses=False, terse=False
    )
    for row in (row for rows in found for row in rows):
        assert parse_completion(row["completion"], style_for(row["task_id"].partition("/")[0])).is_well_formed
        assert style_for(row["task_id"].partition("/")[0]).role in row["messages"][-1]["content"]
        assert json.loads(row_line(row)) == row


def test_only_the_first_turns_on_demand() -> None:
    assert episodes(turns=2) == [rows[:2] for rows in episodes()]


def test_lost_episodes_are_left_out() -> None:
    assert episodes(env_kwargs={"rooms": "small", "max_steps": 2}, episodes=3) == [[], [], []]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"episodes": 0}, "episodes is 0"),
        ({"noise": 1.0}, "noise is 1.0"),
        ({"turns": 0}, "turns is 0"),
        ({"with_skills": "half"}, "with_skills is 'half'"),
        ({"with_skills": True}, "with_skills is True"),
        ({"noise": None}, "noise is None"),
        ({"noise": float("nan")}, "noise is nan"),
        ({"with_skills": -0.1}, "with_skills is -0.1"),
        ({"history_length": -1}, "history_length is -1"),
        ({"first": -1}, "first is -1"),
        ({"seed": 1.0}, "seed is 1.0"),
        ({"k": 0}, "k is 0"),
        ({"turns": True}, "turns is True"),
        ({"terse": "no"}, "terse is 'no'; wanted true or false"),
        ({"guesses": 1}, "guesses is 1; wanted true or false"),
        ({"expert": 3}, "expert is 3; wanted text"),
        ({"retriever": None}, "retriever is None; wanted text"),
        ({"split": 3}, "split is 3; wanted text"),
        ({"env_kwargs": "rooms=small"}, "env_kwargs is 'rooms=small'; wanted a section with settings"),
    ],
)
def test_bad_settings_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidOption, match=re.escape(message)):
        DemonstrationSettings(env_id=ALFWORLD, **given)


def test_only_the_explorer_guesses() -> None:
    with pytest.raises(InvalidOption, match="guesses is for ALFWorld's explorer, and the expert is 'oracle'"):
        episodes(expert="oracle")


def test_an_explorer_reads_in_an_episode() -> None:
    with pytest.raises(EpisodeOver, match="asked to read before reset"):
        ExplorerAgent().read((), random.Random(0))


def test_unknown_names_are_refused() -> None:
    for given in ({"expert": "explorre"}, {"retriever": "hom"}, {"split": "trian"}):
        with pytest.raises(UnknownName):
            episodes(**given)


def test_a_split_with_two_names_is_played_by_either() -> None:
    ids = [
        [one.task_id for one in played(ALFWORLD, "oracle", episodes=2, split=split)]
        for split in ("eval_in_distribution", "valid_seen")
    ]
    assert ids[0] == ids[1]


# -- what can be learnt --------------------------------------------------------------------------

EXPERTS = [("sdar/WebShop-v0", None), ("sdar/WebShop-v0", "oracle"), ("sdar/SearchQA-v0", "oracle"), (ALFWORLD, None)]


def played(env_id: str, expert: str | None = None, **given: Any) -> list[Demonstration]:
    return list(demonstrate(DemonstrationSettings(env_id=env_id, expert=expert, **{"episodes": 40, **given})))


def prompt(row: dict[str, Any]) -> str:
    text: str = row["messages"][-1]["content"]
    return text


@pytest.mark.parametrize(("env_id", "expert"), EXPERTS)
def test_every_suite_shows_how_to_recover_by_default(env_id: str, expert: str | None) -> None:
    after_others = rows = 0
    for found in played(env_id, expert):
        turns = [-1, *(row["turn"] for row in found.rows)]
        after_others += sum(later > earlier + 1 for earlier, later in itertools.pairwise(turns))
        rows += len(found.rows)
    assert 3 < after_others < rows / 2


@pytest.mark.parametrize(("env_id", "expert"), EXPERTS)
def test_searches_name_only_what_was_shown(env_id: str, expert: str | None) -> None:
    for found in played(env_id, expert, history_length=15):
        for row in found.rows:
            query = re.search(r"<action>search\[(.*)\]|<search>(.*)</search>", row["completion"])
            for word in re.findall(r"\w+", (query[1] or query[2]) if query else "")[1:]:
                if word[0].isupper() or any(map(str.isdigit, word)):
                    assert word.lower() in prompt(row).lower(), (row["task_id"], word)


@pytest.mark.parametrize(("env_id", "expert"), EXPERTS)
def test_a_thought_is_no_command_and_does_not_repeat_the_instruction(env_id: str, expert: str | None) -> None:
    source = make_text_env(env_id).source
    for found in played(env_id, expert):
        for row in found.rows:
            thought = row["completion"].partition("</think>")[0]
            command = parse_completion(row["completion"], style_for(source.find(row["task_id"]).suite)).action
            assert command not in thought
            assert not re.search(r"(search|click|answer)\[", thought)
            assert source.find(row["task_id"]).instruction not in thought
            assert len(thought) < 400


def test_quoted_words_and_prices_stand_in_the_prompt() -> None:
    for found in played("sdar/WebShop-v0"):
        for row in found.rows:
            thought = row["completion"].partition("</think>")[0]
            if price := re.search(r"It costs (\$[\d.]+), and the limit is ([\d.]+ dollars)", thought):
                assert price[1] in prompt(row)
                assert price[2] in prompt(row)
            if wanted := re.search(r"The task wants (.*)\.", thought):
                assert wanted[1] in prompt(row).lower()
    for found in played("sdar/SearchQA-v0", "oracle", history_length=9):
        for row in found.rows:
            if read := re.search(r"I read: (.*) (That is the answer|I look up)", row["completion"]):
                assert read[1] in prompt(row)


def test_a_click_that_named_nothing_is_called_useless_and_a_chosen_option_is_not() -> None:
    page = (
        "Instruction: [SEP] a hat with color: red [SEP] Back to Search [SEP] < Prev [SEP] color [SEP] red [SEP] Buy Now"
    )
    for earlier, said in (("click[red]", False), ("click[blue]", True)):
        thought = shopping_thought("a hat with color: red", [Turn(page, earlier)], page, "click[buy now]")
        assert ("That changed nothing." in thought) is said


def test_what_an_expert_cannot_play_is_left_out_and_named() -> None:
    found = played("sdar/WebShop-v0", "oracle", episodes=60, noise=0.0)
    left_out = [one for one in found if one.reason == "the expert has no plan"]
    assert 0 < len(left_out) < 10
    assert all(one.rows == [] for one in left_out)
    assert sum(bool(one.rows) for one in found) > 45


class Chinese(CountingEnv):
    """Takes one command, which is in Chinese."""

    prompt_style = PromptStyle("", refuse_cjk=True)

    def oracle_plan(self) -> tuple[str, ...]:
        return ("click[红色]",)


def test_a_command_that_the_format_refuses_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sdar_agents.sft.demonstrations.open_split", lambda *_, **__: (Chinese(), "train"))
    found = played("toy/Chinese-v0", "oracle", split=None, episodes=2)
    assert [one.rows for one in found] == [[], []]
    assert all("'click[红色]' does not survive the prompt style's format" in one.reason for one in found)


def test_what_was_made_before_an_error_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = DemonstrationSettings(env_id="sdar/WebShop-v0", episodes=10, noise=0.0)
    whole = write_demonstrations(tmp_path / "whole.jsonl", settings)
    assert (whole.episodes, len((tmp_path / "whole.jsonl").read_text().splitlines())) == (10, whole.rows)
    played_tasks: list[DemonstrationTally] = []

    def interrupt(tally: DemonstrationTally) -> None:
        if tally.episodes == 8:
            raise KeyboardInterrupt
        played_tasks.append(tally)

    with pytest.raises(KeyboardInterrupt):
        write_demonstrations(tmp_path / "part.jsonl", settings, progress=interrupt)
    kept = (tmp_path / "part.jsonl").read_text()
    assert kept
    assert (tmp_path / "whole.jsonl").read_text().startswith(kept)


def test_nothing_to_learn_from_is_an_error_that_says_why(tmp_path: Path) -> None:
    settings = DemonstrationSettings(env_id=ALFWORLD, env_kwargs={"rooms": "small", "max_steps": 2}, episodes=3)
    with pytest.raises(InvalidOption, match=r"none of 3 episodes can be learnt from \(lost: alfworld/small_train/0000"):
        write_demonstrations(tmp_path / "rows.jsonl", settings)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("noise", [0.0, 0.4])
def test_a_growing_chat_is_what_a_rollout_asks_a_policy_with_the_same_tokens(noise: float) -> None:
    given: dict[str, Any] = {"noise": noise, "episodes": 3, "with_skills": 0.0}
    turns, [*chats] = episodes(**given), episodes(**given, history="appended")
    assert [len(rows) for rows in chats] == [1 if rows else 0 for rows in turns]
    policy = tiny_policy()
    end = policy.tokenizer.eos_token_id
    for [chat], rows in ((chat, rows) for chat, rows in zip(chats, turns, strict=True) if rows):
        own = [message["content"] for message in chat["messages"] if message["role"] == "assistant"]
        # Actions are those of the rows, and what is not the expert's is not to be learnt.
        learnt = [chat["messages"][number]["content"] for number in chat["learnt"]] + [chat["completion"]]
        assert [action({**chat, "completion": text}) for text in learnt] == [action(row) for row in rows]
        assert (len(own) + 1 > len(learnt)) == (len(rows) <= rows[-1]["turn"])
        said = [*own, chat["completion"]]

        class Says:
            context_length = None
            render, encode = staticmethod(policy.render), staticmethod(policy.encode)

            def generate(self, requests: Any, sampling: Any, said: list[str] = said) -> list[Completion]:
                texts = [said[request.situation.turn_index] for request in requests]
                return [Completion((*policy.encode(text), end), None, text, "eos") for text in texts]

        settings = RolloutSettings(ALFWORLD, {**SMALL, "split": "train"}, history="appended", terse=True)
        task = next(
            each
            for each in sdar_envs.tasks(ALFWORLD, split="train", limit=400, rooms="small")
            if each.id == chat["task_id"]
        )
        [played] = Rollout(settings, Says()).collect([task], group_size=1, seed=0, step=0).trajectories
        assert played.success
        [row] = make_rows(played)
        examples = encode_rows([chat], policy.tokenizer)
        assert tuple(examples.token_ids.tolist()) == row.prompt_ids + row.response_ids
        assert row.token_turns is not None
        assert examples.kinds is not None
        trained = [
            turn for turn, text in enumerate(said) if turn in {len(own)} | {number // 2 for number in chat["learnt"]}
        ]
        kinds = [0] * len(row.prompt_ids) + [0 if turn < 0 else 1 if turn in trained else 2 for turn in row.token_turns]
        assert examples.kinds.tolist() == kinds
        [micro] = micro_batches(examples, [0], SFTSettings(prompt_weight=0.25, max_tokens=1 << 20), 0)
        assert micro.weights[0].tolist() == [(0.25, 1.0, 0.0)[kind] for kind in kinds[1:]]
        assert micro.answers[0].tolist() == [kind == 1 for kind in kinds[1:]]


def test_a_growing_chat_may_have_its_first_turns_alone() -> None:
    [*whole], [*cut] = episodes(history="appended", episodes=4), episodes(history="appended", episodes=4, turns=2)
    for [row], [short] in zip(whole, cut, strict=True):
        assert len(short["messages"]) == 3
        assert short["messages"] == row["messages"][:3]
        assert short["completion"] == row["messages"][3]["content"]


@pytest.mark.parametrize("learnt", [[0], [5], "1", [True, 3]])
def test_numbers_of_what_is_learnt_are_checked(learnt: Any) -> None:
    [[row]] = episodes(history="appended", episodes=1)
    with pytest.raises(InvalidOption, match="wanted the numbers of messages of the assistant"):
        check_row({**row, "messages": row["messages"][:3], "learnt": learnt}, "row 1")
