"""Evaluation: each task once per seed, whatever agents, endpoints and clocks do."""

from __future__ import annotations

import asyncio
import dataclasses
import hashlib
import threading
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from helpers.endpoints import Reply, act, chat, serving
from helpers.toy import CountingEnv

import sdar_envs
from sdar_agents import AgentPool, Decision, open_agent
from sdar_agents.players.agent import AsyncAdapter
from sdar_benchmarks.analysis.summary import summarize
from sdar_benchmarks.evaluation.episodes import Limits
from sdar_benchmarks.evaluation.evaluate import Evaluation, Plan, Tally, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.records.runs import Episode, read_config, read_episodes, read_summary, read_trajectories
from sdar_envs.core import Outcome
from sdar_envs.errors import EndpointError, InvalidOption, RunStopped, UnknownName
from sdar_envs.rng import derive_seed

ALFWORLD = "sdar/ALFWorld-v0"
WEBSHOP = "sdar/WebShop-v0"
TOY = "toy/EvaluatedCounting-v0"
BROKEN = "toy/BrokenCounting-v0"


class BrokenEnv(CountingEnv):
    """Cannot go down."""

    def _act(self, action: str) -> Outcome:
        if action == "down":
            raise ZeroDivisionError("no way down")
        return super()._act(action)


@pytest.fixture(scope="module", autouse=True)
def _toys() -> Iterator[None]:
    gym.register(id=TOY, entry_point="helpers.toy:CountingEnv")
    gym.register(id=BROKEN, entry_point=BrokenEnv)
    yield
    del gym.registry[TOY], gym.registry[BROKEN]


def play(
    agent: str | AgentPool,
    *panels: PanelSpec,
    settings: Mapping[str, Any] | None = None,
    out: Path | None = None,
    resume: bool = False,
    progress: Callable[[Tally], None] | None = None,
    **plan: Any,
) -> Evaluation:
    panels = panels or (PanelSpec(TOY, "valid"),)
    agents = open_agent(agent, settings or {}, [panel.env_id for panel in panels]) if isinstance(agent, str) else agent
    return evaluate(Plan(panels, **plan), agents, out=out, resume=resume, progress=progress)


def timeless(episodes: Any) -> list[Episode]:
    return [dataclasses.replace(episode, seconds=0.0, agent_seconds=0.0) for episode in episodes]


Decide = Callable[[str, int], Awaitable[Decision | Any]]


class Asked:
    """An agent whose every decision is asked of a function of task and turn."""

    def __init__(self, decide: Decide) -> None:
        self.decide = decide
        self.is_closed = False

    async def reset(self, env: gym.Env[str, str], observation: str, info: Mapping[str, Any], seed: int) -> None:
        self.task_id, self.turn = info["task_id"], -1

    async def act(self, observation: str, info: Mapping[str, Any]) -> Decision:
        self.turn += 1
        return await self.decide(self.task_id, self.turn)

    async def close(self) -> None:
        self.is_closed = True


def asked(decide: Decide, concurrency: int = 4) -> AgentPool:
    return AgentPool("asked", lambda: Asked(decide), concurrency=concurrency)


async def up(task_id: str, turn: int) -> Decision:
    return Decision("up")


# -- the walk ---------------------------------------------------------------------------------


def test_each_task_once_per_seed_in_the_order_of_the_split() -> None:
    tallies: list[Tally] = []
    evaluation = play("random", seeds=(4, 2), progress=tallies.append)
    tasks = sdar_envs.tasks(TOY, split="valid")
    assert [(row.seed, row.task_id, row.task_type) for row in evaluation.episodes] == [
        (seed, task.id, task.task_type) for seed in (4, 2) for task in tasks
    ]
    assert [tally.done for tally in tallies] == list(range(61))
    assert {(tally.total, tally.errors) for tally in tallies} == {(60, 0)}
    assert tallies[-1].successes == sum(row.is_success for row in evaluation.episodes)
    [panel] = evaluation.summary.panels
    assert panel.total == evaluation.summary.total == summarize(evaluation.episodes)
    assert list(panel.task_types) == ["count_down", "count_up"]
    assert sum(summary.episodes for summary in panel.task_types.values()) == 60
    assert evaluation.summary.missing == 0


def test_rows_add_up() -> None:
    for row in play("random").episodes:
        assert row.is_success == row.terminated == (row.stop_reason == "terminated")
        assert row.terminated != row.truncated == (row.stop_reason == "step_limit")
        assert row.episode_return == row.score == float(row.is_success)
        assert 1 <= row.steps <= 8
        assert row.truncated <= (row.steps == 8)
        assert (row.invalid_actions, row.status, row.error, row.attempt) == (0, "ok", None, 1)
        assert row.seconds > row.agent_seconds > 0
        assert (row.prompt_tokens, row.completion_tokens, row.cost) == (None, None, None)


def test_neither_order_nor_number_nor_concurrency_changes_an_episode() -> None:
    first = timeless(play("random", seeds=(5, 6)).episodes)
    assert first == timeless(play("random", seeds=(5, 6), concurrency=9).episodes)
    some = timeless(play("random", PanelSpec(TOY, "valid", 7), seeds=(6,)).episodes)
    assert len(some) == 7
    assert some == [next(row for row in first[30:] if row.task_id == other.task_id) for other in some]
    assert first[:30] != [dataclasses.replace(row, seed=5) for row in first[30:]]


def test_episode_seed_is_the_same_everywhere() -> None:
    wanted = int(hashlib.sha256(b"0/toy/valid/0000").hexdigest()[:8], 16)
    assert derive_seed(0, "toy/valid/0000") == wanted == 187113241
    assert len({derive_seed(seed, f"task {i}") for seed in range(3) for i in range(100)}) == 300


def test_several_suites_each_by_its_own_script() -> None:
    panels = [PanelSpec(env_id, limit=4) for env_id in sdar_envs.ENV_IDS]
    evaluation = play("default", *panels)
    assert [panel.env_id for panel in evaluation.summary.panels] == list(sdar_envs.ENV_IDS)
    assert evaluation.summary.total is not None
    assert evaluation.summary.total.episodes == 4 * len(panels)
    rates = [panel.total.success_rate for panel in evaluation.summary.panels]
    assert evaluation.summary.macro is not None
    assert evaluation.summary.macro.success_rate == pytest.approx(sum(rates) / len(rates))
    assert evaluation.config["agent"]["settings"] == {
        env_id: ("explorer" if env_id == ALFWORLD else evaluation.config["agent"]["settings"][env_id])
        for env_id in sdar_envs.ENV_IDS
    }


@pytest.mark.parametrize("agent", ["oracle", "explorer"])
def test_alfworld_with_arguments(agent: str) -> None:
    evaluation = play(agent, PanelSpec(ALFWORLD, "valid_unseen", 5, {"wording": "put", "max_steps": 40}))
    [panel] = evaluation.config["panels"]
    kwargs = panel["env_kwargs"]
    assert (kwargs["wording"], kwargs["max_steps"], kwargs["data"], kwargs["split"]) == (
        "put",
        40,
        "embedded",
        "valid_unseen",
    )
    assert evaluation.summary.panels[0].total.success_rate == 1.0


def test_endless_split_with_a_limit() -> None:
    evaluation = play("oracle", PanelSpec(ALFWORLD, "train", 3))
    assert [row.task_id for row in evaluation.episodes] == [f"alfworld/train/000{i}" for i in range(3)]


def test_a_task_that_cannot_be_done_is_a_failure_and_no_error() -> None:
    # With the original's quirks, about one synthetic goal of twenty cannot reach a full score.
    evaluation = play("oracle", PanelSpec(WEBSHOP, "test", 60))
    given_up = [row for row in evaluation.episodes if not row.is_success]
    assert given_up
    assert {(row.stop_reason, row.status, row.error) for row in given_up} == {("gave_up", "ok", None)}
    assert all(row.score == 1.0 for row in evaluation.episodes if row.is_success)
    assert evaluation.summary.panels[0].total.mean_score == pytest.approx(1 - len(given_up) / 60)


@pytest.mark.parametrize(
    ("error", "match", "arguments"),
    [
        (InvalidOption, "without end: say how many", {"panel": PanelSpec(ALFWORLD, "train")}),
        (InvalidOption, "limit is 0", {"panel": PanelSpec(TOY, "valid", 0)}),
        (UnknownName, "split is 'valdi'.*Did you mean 'valid'", {"panel": PanelSpec(TOY, "valdi")}),
        (UnknownName, "no agent 'randon'.*Did you mean 'random'", {"agent": "randon"}),
        (UnknownName, "random agent has no setting 'model'", {"settings": {"model": "x"}}),
        (UnknownName, "no environment 'sdar/ALFWrld-v0'.*Did you mean", {"panel": PanelSpec("sdar/ALFWrld-v0")}),
        (
            UnknownName,
            "no argument 'max_step'.*Did you mean",
            {"panel": PanelSpec(TOY, "valid", None, {"max_step": 3})},
        ),
        (UnknownName, "no explorer for 'toy/Counting-v0'", {"agent": "explorer"}),
        (InvalidOption, "concurrency is 0", {"concurrency": 0}),
        (InvalidOption, "the seeds are", {"seeds": ()}),
        (InvalidOption, "the seeds are", {"seeds": (1, 1)}),
        (InvalidOption, "the seeds are", {"seeds": (-1,)}),
    ],
)
def test_bad_arguments(error: type[Exception], match: str, arguments: dict[str, Any], tmp_path: Path) -> None:
    arguments = {"agent": "random", "panel": PanelSpec(TOY, "valid"), **arguments}
    with pytest.raises(error, match=match):
        play(arguments.pop("agent"), arguments.pop("panel"), out=tmp_path / "run", **arguments)
    assert not (tmp_path / "run").exists()


def test_one_split_is_played_once() -> None:
    with pytest.raises(InvalidOption, match="each split of each once"):
        play("random", PanelSpec(TOY, "valid"), PanelSpec(TOY, "valid"))


# -- agents that wait -------------------------------------------------------------------------


def test_a_slow_episode_holds_up_nobody() -> None:
    others = asyncio.Event()

    async def decide(task_id: str, turn: int) -> Decision:
        if task_id.endswith("0000"):
            await others.wait()  # for ever, if episodes waited for each other
        return Decision("up")

    def progress(tally: Tally) -> None:
        if tally.done == 29:
            others.set()

    evaluation = play(asked(decide, concurrency=2), progress=progress, limits=Limits(max_turn_seconds=30))
    assert {row.status for row in evaluation.episodes} == {"ok"}
    assert len(evaluation.episodes) == 30


def test_so_many_at_once_and_no_more() -> None:
    playing = most = 0

    async def decide(task_id: str, turn: int) -> Decision:
        nonlocal playing, most
        playing += turn == 0
        most = max(most, playing)
        await asyncio.sleep(0)
        playing -= turn == 1
        return Decision("nothing")

    made: list[Asked] = []

    def make() -> Asked:
        made.append(Asked(decide))
        return made[-1]

    play(AgentPool("asked", make), PanelSpec(TOY, "valid", None, {"max_steps": 2}), concurrency=7)
    assert most == 7
    assert [agent.is_closed for agent in made] == [True] * 7


class Pairs:
    """Two of these wait for each other in every turn: a single thread would wait for ever."""

    barrier = threading.Barrier(2)

    def reset(self, env: Any, observation: str, info: Any, seed: int) -> None:
        self.thread = threading.current_thread()

    def act(self, observation: str, info: Any) -> str:
        assert threading.current_thread() is not threading.main_thread()
        self.barrier.wait(30)
        return "nothing"


def test_agents_that_wait_are_called_in_threads() -> None:
    agents = AgentPool("pairs", lambda: AsyncAdapter(Pairs(), in_threads=True))
    evaluation = play(agents, PanelSpec(TOY, "valid", 6), concurrency=2)
    assert [row.stop_reason for row in evaluation.episodes] == ["step_limit"] * 6


def test_agents_are_used_again_unless_they_broke() -> None:
    made = []

    class Fragile:
        def __init__(self) -> None:
            made.append(self)

        def reset(self, env: Any, observation: str, info: Any, seed: int) -> None:
            self.task_id = info["task_id"]

        def act(self, observation: str, info: Any) -> str:
            if self.task_id.endswith("3"):
                raise RuntimeError("broken")
            return "up"

    agents = AgentPool("fragile", lambda: AsyncAdapter(Fragile(), in_threads=False))
    play(agents, PanelSpec(TOY, "valid", 10), limits=Limits(attempts=1))
    assert len(made) == 2


# -- limits -----------------------------------------------------------------------------------


def test_a_turn_that_takes_too_long_ends_its_episode_alone() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        if task_id.endswith("2") and turn == 1:
            await asyncio.sleep(3600)
        return Decision("nothing")

    evaluation = play(asked(decide, 30), limits=Limits(max_turn_seconds=0.3))
    for row in evaluation.episodes:
        slow = row.task_id.endswith("2")
        assert (row.stop_reason, row.steps, row.status) == (
            ("time_limit", 1, "ok") if slow else ("step_limit", 8, "ok")
        )
    assert evaluation.summary.panels[0].total.stop_reasons == {"step_limit": 27, "time_limit": 3}


def test_an_episode_that_takes_too_long() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        await asyncio.sleep(0.15)
        return Decision("nothing")

    [row] = play(asked(decide), PanelSpec(TOY, "valid", 1), limits=Limits(episode_seconds=0.4)).episodes
    assert row.stop_reason == "time_limit"
    assert row.steps < 8


def test_an_agent_that_hangs_in_its_thread_is_left_behind() -> None:
    class Hangs:
        release = threading.Event()

        def reset(self, env: Any, observation: str, info: Any, seed: int) -> None: ...

        def act(self, observation: str, info: Any) -> str:
            self.release.wait(60)
            return "up"

    agents = AgentPool("hangs", lambda: AsyncAdapter(Hangs(), in_threads=True))
    evaluation = play(agents, PanelSpec(TOY, "valid", 2), limits=Limits(max_turn_seconds=0.1))
    Hangs.release.set()
    assert [row.stop_reason for row in evaluation.episodes] == ["time_limit"] * 2


def test_an_agent_that_blocks_the_loop_cannot_get_round_the_limit() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        threading.Event().wait(0.2)
        return Decision("up")

    [row] = play(asked(decide), PanelSpec(TOY, "valid", 1), limits=Limits(max_turn_seconds=0.1)).episodes
    assert (row.stop_reason, row.steps) == ("time_limit", 0)


def test_tokens_run_out() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        return Decision("nothing", prompt_tokens=10, completion_tokens=5, cost=0.5)

    evaluation = play(asked(decide), PanelSpec(TOY, "valid", 2), limits=Limits(episode_tokens=40))
    for row in evaluation.episodes:
        # 15 a turn: the third reaches 40.
        assert (row.stop_reason, row.steps, row.prompt_tokens, row.completion_tokens) == ("token_limit", 3, 30, 15)
        assert row.cost == 1.5
    total = evaluation.summary.total
    assert total is not None
    assert (total.prompt_tokens, total.completion_tokens, total.cost) == (60, 30, 3.0)


def test_a_limit_on_tokens_that_nobody_counts_is_an_error() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        return Decision("nothing", prompt_tokens=5)

    [row] = play(asked(decide), PanelSpec(TOY, "valid", 1), limits=Limits(episode_tokens=40)).episodes
    assert (row.stop_reason, row.steps) == ("agent_error", 1)
    assert "does not report how many tokens" in row.error["message"]


@pytest.mark.parametrize(
    "limits",
    [
        {"max_turn_seconds": 0},
        {"episode_seconds": -1},
        {"episode_seconds": float("nan")},
        {"episode_tokens": 0},
        {"episode_tokens": 1.5},
        {"attempts": 0},
    ],
)
def test_bad_limits(limits: dict[str, Any]) -> None:
    [name] = limits
    with pytest.raises(InvalidOption, match=f"{name} is "):
        Limits(**limits)


# -- errors -----------------------------------------------------------------------------------


def failing(times: int, error: Exception, tasks: str = "3") -> AgentPool:
    """Fail so many times in each of some tasks' second turns."""
    left: dict[str, int] = {}

    async def decide(task_id: str, turn: int) -> Decision:
        if task_id.endswith(tasks) and turn == 1 and left.setdefault(task_id, times):
            left[task_id] -= 1
            raise error
        return Decision("nothing", prompt_tokens=1, completion_tokens=2)

    return asked(decide)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (RuntimeError("boom"), "agent_error"),
        (TimeoutError("mine"), "agent_error"),
        (EndpointError("down"), "endpoint_error"),
    ],
)
def test_an_error_is_a_result_and_tried_again(error: Exception, reason: str, tmp_path: Path) -> None:
    evaluation = play(failing(1, error), out=tmp_path / "run")
    assert {row.status for row in evaluation.episodes} == {"ok"}
    rows = read_episodes(tmp_path / "run")
    assert len(rows) == 33
    # Tried again after all others.
    assert [(row.task_id[-2:], row.attempt) for row in rows[-3:]] == [("03", 2), ("13", 2), ("23", 2)]
    failed = [row for row in rows if row.status == "error"]
    assert [row.task_id[-2:] for row in failed] == ["03", "13", "23"]
    for row in failed:
        assert (row.stop_reason, row.steps, row.attempt, row.is_success) == (reason, 1, 1, False)
        assert row.error == {"type": type(error).__name__, "message": str(error)}
        assert (row.prompt_tokens, row.completion_tokens) == (1, 2)
    trajectories = list(read_trajectories(tmp_path / "run"))
    assert [(t["task_id"], t["attempt"], t["stop_reason"]) for t in trajectories] == [
        (row.task_id, row.attempt, row.stop_reason) for row in rows
    ]


def test_an_error_that_stays_counts_as_a_failure(tmp_path: Path) -> None:
    evaluation = play(failing(99, RuntimeError("boom")), out=tmp_path / "run", limits=Limits(attempts=3))
    total = evaluation.summary.total
    assert total is not None
    assert (total.episodes, total.errors) == (30, 3)
    assert total.stop_reasons == {"agent_error": 3, "step_limit": 27}
    assert [row.attempt for row in evaluation.episodes if row.status == "error"] == [3, 3, 3]
    assert read_config(tmp_path / "run")["finished"] is None
    assert "3 episodes ended in an error" in (tmp_path / "run" / "report.md").read_text()


def test_going_on_redoes_errors_and_nothing_else(tmp_path: Path) -> None:
    play(failing(99, RuntimeError("boom")), out=tmp_path / "run", limits=Limits(attempts=1))
    before = read_episodes(tmp_path / "run")
    evaluation = play(failing(0, RuntimeError("boom")), out=tmp_path / "run", resume=True)
    rows = read_episodes(tmp_path / "run")
    assert rows[:30] == before
    assert [(row.task_id[-2:], row.attempt, row.status) for row in rows[30:]] == [
        ("03", 2, "ok"),
        ("13", 2, "ok"),
        ("23", 2, "ok"),
    ]
    assert timeless(evaluation.episodes) == [
        dataclasses.replace(row, attempt=2 if row.task_id.endswith("3") else 1)
        for row in timeless(play(failing(0, RuntimeError())).episodes)
    ]
    assert read_config(tmp_path / "run")["finished"]


def test_an_environment_that_breaks_is_replaced() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        return Decision("down" if task_id.endswith("5") else "up")

    evaluation = play(asked(decide, 1), PanelSpec(BROKEN, "valid", 12))
    failed = [row for row in evaluation.episodes if row.status == "error"]
    assert [(row.task_id[-2:], row.stop_reason, row.attempt) for row in failed] == [("05", "env_error", 2)]
    assert failed[0].error == {"type": "ZeroDivisionError", "message": "no way down"}


@pytest.mark.parametrize("decision", ["up", None, Decision(7), Decision(None)])
def test_what_is_no_command_is_an_error_of_the_agent(decision: Any) -> None:
    async def decide(task_id: str, turn: int) -> Any:
        return decision

    [row] = play(asked(decide), PanelSpec(TOY, "valid", 1)).episodes
    assert (row.stop_reason, row.steps) == ("agent_error", 0)
    assert "wanted a Decision with a command as str" in row.error["message"]


def test_when_nothing_but_errors_comes_back_the_run_stops(tmp_path: Path) -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        if int(task_id[-2:]) >= 10:
            raise EndpointError("the server is down")
        return Decision("up")

    with pytest.raises(RunStopped, match=r"the last 8 episodes all ended in an error.*the server is down.*--resume"):
        play(asked(decide, 1), out=tmp_path / "run")
    assert [row.status for row in read_episodes(tmp_path / "run")] == ["ok"] * 10 + ["error"] * 8
    assert read_summary(tmp_path / "run")["missing"] == 12
    assert read_config(tmp_path / "run")["finished"] is None
    evaluation = play(asked(up, 1), out=tmp_path / "run", resume=True)
    assert timeless(evaluation.episodes) == [
        dataclasses.replace(row, attempt=2 if 10 <= int(row.task_id[-2:]) < 18 else 1)
        for row in timeless(play(asked(up)).episodes)
    ]


def test_many_errors_that_stay_do_not_stop_a_run_at_its_end() -> None:
    async def decide(task_id: str, turn: int) -> Decision:
        if int(task_id[-2:]) % 2:
            raise EndpointError("too long for this model")
        return Decision("up")

    evaluation = play(asked(decide, 1))
    assert sum(row.status == "error" for row in evaluation.episodes) == 15
    assert len(evaluation.episodes) == 30


def test_an_act_that_is_no_coroutine_is_an_error_of_the_agent() -> None:
    class Plain:
        async def reset(self, *_: Any) -> None: ...

        def act(self, observation: str, info: Any) -> str:
            if observation.startswith("It is 1"):
                raise ValueError("one")
            return "up"

    evaluation = play(AgentPool("plain", Plain, concurrency=31))  # type: ignore[arg-type]
    assert {row.stop_reason for row in evaluation.episodes} == {"agent_error"}
    assert {row.error["type"] for row in evaluation.episodes} == {"TypeError", "ValueError"}


# -- environments of one's own ------------------------------------------------------------------


class OneSplit(CountingEnv):
    """An environment with one split, whose class does not say on which one it is evaluated."""

    def __init__(self, *, split: str = "valid", max_steps: int = 8) -> None:
        super().__init__(split=split, max_steps=max_steps)
        self.source.splits = {"valid": 30}


class NoSplitArgument(OneSplit):
    """An environment with one split and no argument of that name."""

    def __init__(self, *, max_steps: int = 8) -> None:
        super().__init__(max_steps=max_steps)


class ManySplits(CountingEnv):
    """An environment with several splits, none of which is `test` or declared."""


class Declared(CountingEnv):
    """An environment that declares its split."""

    evaluation_split = "valid"


@pytest.fixture
def own() -> Iterator[None]:
    kinds = {
        "acme/One-v0": OneSplit,
        "acme/NoArgument-v0": NoSplitArgument,
        "acme/Many-v0": ManySplits,
        "acme/Declared-v0": Declared,
    }
    for env_id, kind in kinds.items():
        gym.register(id=env_id, entry_point=kind)
    yield
    for env_id in kinds:
        del gym.registry[env_id]


@pytest.mark.parametrize("env_id", ["acme/One-v0", "acme/NoArgument-v0", "acme/Declared-v0"])
def test_an_environment_of_ones_own_is_evaluated_on_its_split(own, env_id: str) -> None:
    entrant = open_agent("random", {}, [env_id])
    evaluation = evaluate(Plan([PanelSpec(env_id, limit=3)]), entrant)
    [panel] = evaluation.summary.panels
    assert (panel.split, panel.total.episodes) == ("valid", 3)
    assert evaluation.config["panels"][0]["split"] == "valid"


class Guess(gym.Env[str, str]):
    """A plain Gymnasium text environment, without tasks and splits, that cannot be copied."""

    def __init__(self) -> None:
        self.observation_space = self.action_space = sdar_envs.Unicode()
        self._lock = threading.Lock()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[str, dict[str, Any]]:
        super().reset(seed=seed)
        self._secret = str(self.np_random.integers(3))
        return "Guess a digit below 3.", {"admissible_commands": ["0", "1", "2"]}

    def step(self, action: str) -> tuple[str, float, bool, bool, dict[str, Any]]:
        won = action == self._secret
        return "Yes." if won else "No.", float(won), won, False, {"admissible_commands": ["0", "1", "2"]}


def test_a_plain_gymnasium_environment_is_evaluated(tmp_path: Path) -> None:
    gym.register(id="acme/Guess-v0", entry_point=Guess, max_episode_steps=4)
    try:
        plan = Plan([PanelSpec("acme/Guess-v0", limit=8)])
        evaluation = evaluate(plan, open_agent("random", {}, ["acme/Guess-v0"]), out=tmp_path / "run")
        with pytest.raises(InvalidOption, match="without end: say how many with a limit"):
            evaluate(Plan([PanelSpec("acme/Guess-v0")]), open_agent("random", {}, ["acme/Guess-v0"]))
    finally:
        del gym.registry["acme/Guess-v0"]
    assert [row.task_id for row in evaluation.episodes][:2] == ["acme/default/0000", "acme/default/0001"]
    assert {row.status for row in evaluation.episodes} == {"ok"}
    assert 0 < sum(row.is_success for row in evaluation.episodes) < 8
    [first, *_] = read_trajectories(tmp_path / "run")
    assert first["instruction"] == "Guess a digit below 3."


def test_an_environment_with_several_splits_and_none_to_evaluate_on_is_refused(own) -> None:
    entrant = open_agent("random", {}, ["acme/Many-v0"])
    with pytest.raises(UnknownName, match=r"no split 'test'; set split to one of train, valid"):
        evaluate(Plan([PanelSpec("acme/Many-v0")]), entrant)
    assert evaluate(Plan([PanelSpec("acme/Many-v0", "valid", 2)]), open_agent("random", {}, [])).summary.missing == 0


def test_an_agent_that_cannot_begin_is_told_before_anything_is_written(tmp_path: Path) -> None:
    class Shy:
        async def reset(self, *_: Any) -> None:
            raise OSError("no")

        async def act(self, observation: str, info: Any) -> Decision:
            raise AssertionError("no episode has begun")

    with pytest.raises(InvalidOption, match=r"'shy' cannot begin an episode of toy/.*: OSError: no"):
        play(AgentPool("shy", Shy), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


# -- a model behind HTTP ----------------------------------------------------------------------


def test_a_model_plays_and_is_recorded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-0123456789abcdef")
    replies = [act("up"), chat("Is \ud800 this a command? sk-0123456789abcdef"), chat("<action>up</action>")]

    def respond(body: dict[str, Any]) -> Reply:
        return replies[len(server.requests) % 3]

    settings = {"model": "tiny", "temperature": 0.0, "price_prompt": 1.0, "price_completion": 2.0}
    with serving(respond) as server:
        settings["base_url"] = server.url
        evaluation = play("openai", PanelSpec(TOY, "valid", 12), settings=settings, out=tmp_path / "run", concurrency=3)
    assert {row.status for row in evaluation.episodes} == {"ok"}
    for row in evaluation.episodes:
        assert (row.prompt_tokens, row.completion_tokens) == (7 * row.steps, 3 * row.steps)
        assert row.cost == pytest.approx(13e-6 * row.steps)
    turns = [turn for trajectory in read_trajectories(tmp_path / "run") for turn in trajectory["turns"]]
    assert len(turns) == len(server.requests) == sum(row.steps for row in evaluation.episodes)
    assert {turn["response"] for turn in turns} <= {
        "<think>Well.</think><action>up</action>",
        "Is \ud800 this a command? [key]",
        "<action>up</action>",
    }
    # The format is the answer's, the command the environment's: one can be right without the other.
    assert all(turn["is_well_formed"] == (turn["reasoning"] == "Well.") for turn in turns)
    assert all(turn["is_action_valid"] == (turn["action"] == "up") for turn in turns)
    assert {(turn["is_well_formed"], turn["is_action_valid"]) for turn in turns} >= {(True, True), (False, True)}
    assert {turn["messages"][0]["role"] for turn in turns} == {"user"}
    malformed = sum(not turn["is_well_formed"] for turn in turns)
    invalid = sum(not turn["is_action_valid"] for turn in turns)
    assert sum(row.malformed_answers for row in evaluation.episodes) == malformed > invalid > 0
    assert sum(row.invalid_actions for row in evaluation.episodes) == invalid
    total = evaluation.summary.total
    assert (total.malformed_share, total.invalid_share) == (malformed / len(turns), invalid / len(turns))
    for path in (tmp_path / "run").iterdir():
        assert b"0123456789abcdef" not in path.read_bytes(), path.name


def test_an_endpoint_that_is_down_stops_the_run_and_can_be_gone_on_with(tmp_path: Path) -> None:
    settings = {"model": "tiny", "retries": 1, "backoff_seconds": 0.001}
    with serving(lambda body: Reply("<html>", 503)) as server:
        settings["base_url"] = server.url
        with pytest.raises(RunStopped, match=r"endpoint_error: EndpointError: http.* answered 503 <html>"):
            play("openai", settings=settings, out=tmp_path / "run", concurrency=5)
        server.respond = lambda body: act("up")
        evaluation = play("openai", settings=settings, out=tmp_path / "run", resume=True)
    assert {row.status for row in evaluation.episodes} == {"ok"}
    assert read_config(tmp_path / "run")["finished"]
