"""The run folder: kills, full disks, second writers, changed settings, other versions."""

from __future__ import annotations

import dataclasses
import json
import os
import random
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from helpers.endpoints import heavy_tail

import sdar_envs
from sdar_agents import open_agent
from sdar_benchmarks.evaluation.episodes import Limits
from sdar_benchmarks.evaluation.evaluate import Evaluation, Plan, Tally, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.records import runs
from sdar_benchmarks.records.runs import (
    CONFIG,
    EPISODES,
    SUMMARY,
    TRAJECTORIES,
    Episode,
    RunWriter,
    final_episodes,
    read_config,
    read_episodes,
    read_summary,
    read_trajectories,
)
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, RunStopped
from sdar_envs.rng import derive_seed

TOY = "toy/KeptCounting-v0"


@pytest.fixture(scope="module", autouse=True)
def _toy() -> Iterator[None]:
    gym.register(id=TOY, entry_point="helpers.toy:CountingEnv")
    yield
    del gym.registry[TOY]


def play(out: Path, *, resume: bool = False, limit: int | None = None, **plan: Any) -> Evaluation:
    panel = plan.pop("panel", PanelSpec(TOY, "valid", limit))
    agent = open_agent(plan.pop("agent", "random"), {}, [TOY])
    return evaluate(Plan([panel], **plan), agent, out=out, resume=resume)


def timeless(row: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name not in ("seconds", "agent_seconds")}


def rows(folder: Path) -> list[str]:
    """Return all rows, without times, in an order of their own."""
    episodes = [timeless(row.to_json()) for row in read_episodes(folder)]
    return sorted(map(json.dumps, [*episodes, *read_trajectories(folder)]))


def numbers(folder: Path) -> dict[str, Any]:
    """Return the summary without times."""

    def strip(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: strip(inner) for key, inner in value.items() if "seconds" not in key}
        return [strip(inner) for inner in value] if isinstance(value, list) else value

    return strip(read_summary(folder))


# -- what is in it ----------------------------------------------------------------------------


def test_a_folder_holds_everything(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "run"
    evaluation = play(folder, limit=4, seeds=(3, 5), command="sdar eval ...")
    assert sorted(path.name for path in folder.iterdir()) == sorted(
        [CONFIG, EPISODES, TRAJECTORIES, SUMMARY, runs.REPORT]
    )
    config = read_config(folder)
    assert config == evaluation.config
    assert (config["format"], config["command"], config["seeds"], config["concurrency"]) == (
        2,
        "sdar eval ...",
        [3, 5],
        1,
    )
    [panel] = config["panels"]
    assert panel["env_kwargs"] == {"split": "valid", "max_steps": 8, "render_mode": None}
    assert (panel["env_id"], panel["split"], panel["limit"], panel["tasks"]) == (TOY, "valid", 4, 4)
    assert config["agent"] == {"name": "random", "settings": {}}
    assert set(config["versions"]) == {"python", "sdar-envs", "gymnasium", "numpy"}
    assert config["platform"]["cores"] == os.cpu_count()
    assert config["created"] <= config["finished"]
    assert read_episodes(folder) == list(evaluation.episodes)
    assert read_summary(folder) == {**json.loads(json.dumps(evaluation.summary.to_json())), "adaptations": []}
    assert (folder / runs.REPORT).read_text().startswith(f"# random: {TOY}\n")


def test_rows_and_trajectories_agree(tmp_path: Path) -> None:
    play(tmp_path / "run", limit=6)
    for row, trajectory in zip(read_episodes(tmp_path / "run"), read_trajectories(tmp_path / "run"), strict=True):
        for name in (
            "env_id",
            "task_id",
            "task_type",
            "split",
            "seed",
            "attempt",
            "is_success",
            "score",
            "stop_reason",
        ):
            assert trajectory[name] == getattr(row, name)
        turns = trajectory["turns"]
        assert len(turns) == row.steps
        assert sum(turn["reward"] for turn in turns) == row.episode_return
        assert trajectory["instruction"] in turns[0]["observation"]
        assert turns[-1]["score"] == row.score
        assert {turn["messages"] for turn in turns} == {None}
        # Replayed, it says the same.
        env = gym.make(TOY)
        observation, info = env.reset(options={"task_id": row.task_id})
        for turn in turns:
            assert (turn["observation"], turn["admissible_commands"]) == (observation, info["admissible_commands"])
            observation, reward, _, _, info = env.step(turn["action"])
            assert (turn["reward"], turn["is_action_valid"]) == (reward, info["is_action_valid"])
        assert trajectory["final_observation"] == observation


def test_the_fingerprint_tells_content_from_content(tmp_path: Path) -> None:
    def fingerprint(name: str, panel: PanelSpec) -> str:
        play(tmp_path / name, panel=panel, agent="oracle")
        return read_config(tmp_path / name)["panels"][0]["fingerprint"]

    wordings = {fingerprint(w, PanelSpec("sdar/ALFWorld-v0", None, 2, {"wording": w})) for w in ("move", "put")}
    same = fingerprint("again", PanelSpec("sdar/ALFWorld-v0", None, 2, {"wording": "put"}))
    goals = {fingerprint(q, PanelSpec("sdar/WebShop-v0", "test", 1, {"quirks": q})) for q in ("original", "fixed")}
    assert same in wordings
    assert len(wordings) == len(goals) == 2


# -- going on ---------------------------------------------------------------------------------


def test_going_on_with_a_finished_run_plays_nothing(tmp_path: Path) -> None:
    first = play(tmp_path / "run")
    before = (tmp_path / "run" / EPISODES).read_bytes()
    again = play(tmp_path / "run", resume=True)
    assert (tmp_path / "run" / EPISODES).read_bytes() == before
    assert again.episodes == first.episodes
    assert again.summary == first.summary
    assert len(read_config(tmp_path / "run")["resumed"]) == 1


def test_going_on_without_a_run_begins_one(tmp_path: Path) -> None:
    assert len(play(tmp_path / "run", resume=True).episodes) == 30


def test_wherever_it_was_cut_it_goes_on_to_the_same_end(tmp_path: Path) -> None:
    """A kill leaves some bytes of the trajectories, and episodes up to the last trajectory that is whole."""
    play(tmp_path / "whole", limit=8)
    wanted, wanted_numbers = rows(tmp_path / "whole"), numbers(tmp_path / "whole")
    episodes = (tmp_path / "whole" / EPISODES).read_bytes().splitlines(keepends=True)
    trajectories = (tmp_path / "whole" / TRAJECTORIES).read_bytes().splitlines(keepends=True)
    draw = random.Random(0)
    for case in range(40):
        folder = tmp_path / f"cut{case}"
        shutil.copytree(tmp_path / "whole", folder)
        done = draw.randrange(8)
        next_trajectory, next_episode = trajectories[done], episodes[done]
        where = draw.randrange(4)
        if where == 0:  # in the middle of a trajectory
            torn = next_trajectory[: draw.randrange(len(next_trajectory))], b""
        elif where == 1:  # between trajectory and episode
            torn = next_trajectory, b""
        elif where == 2:  # in the middle of an episode
            torn = next_trajectory, next_episode[: draw.randrange(len(next_episode))]
        else:  # just before its end of line
            torn = next_trajectory, next_episode[:-1]
        (folder / TRAJECTORIES).write_bytes(b"".join(trajectories[:done]) + torn[0])
        (folder / EPISODES).write_bytes(b"".join(episodes[:done]) + torn[1])
        (folder / SUMMARY).unlink()
        (folder / ".config.json-0123").write_text("{")  # of a file that was being replaced
        assert len(list(read_trajectories(folder))) in (done, done + 1)
        assert len(read_episodes(folder)) == done
        play(folder, limit=8, resume=True)
        assert rows(folder) == wanted
        assert numbers(folder) == wanted_numbers


def test_a_kill_before_the_first_row(tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / ".lock").touch()
    (tmp_path / "run" / ".config.json-0123").write_text("{")
    assert len(play(tmp_path / "run", limit=2).episodes) == 2


AGENT = """
import random, time

class Dawdler:
    '''Acts at random, like the random agent, but takes its time.'''

    def reset(self, env, observation, info, seed):
        self.random = random.Random(seed)

    def act(self, observation, info):
        time.sleep(0.002)
        return self.random.choice(info["admissible_commands"])
"""


@pytest.mark.parametrize(
    ("panels", "limit"), [(sdar_envs.ENV_IDS[:1], 24), pytest.param(sdar_envs.ENV_IDS, 8, marks=pytest.mark.slow)]
)
def test_killed_at_random_points_it_ends_as_if_never_interrupted(
    panels: Sequence[str], limit: int, tmp_path: Path
) -> None:
    total = 2 * limit * len(panels)
    (tmp_path / "dawdler.py").write_text(AGENT)
    arguments = [*panels, "--agent", "dawdler:Dawdler", "--limit", str(limit), "--seeds", "2", "--max-steps", "10"]
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "eval", *arguments, "--concurrency", "3", "--out"]
    draw = random.Random(time.time_ns())
    kills = 0
    for _ in range(3):
        before = (tmp_path / "killed" / EPISODES).stat().st_size if (tmp_path / "killed" / EPISODES).exists() else 0
        resume = ["--resume"] if (tmp_path / "killed" / runs.CONFIG).exists() else []
        process = subprocess.Popen([*command, "killed", *resume], cwd=tmp_path, stdout=subprocess.PIPE, text=True)
        # Kill it in the middle of things: some bytes after it has begun to write.
        wanted = before + draw.randrange(1, 3000)
        while process.poll() is None:
            path = tmp_path / "killed" / EPISODES
            if path.exists() and path.stat().st_size >= wanted:
                time.sleep(draw.random() * 0.02)
                process.send_signal(signal.SIGKILL)
                break
            time.sleep(0.001)
        process.communicate()
        kills += process.returncode == -signal.SIGKILL
    assert kills >= 1
    assert 1 <= len(read_episodes(tmp_path / "killed")) < total
    for arguments in (["killed", "--resume"], ["whole"]):
        subprocess.run([*command, *arguments], cwd=tmp_path, check=True, capture_output=True)
    assert len(read_episodes(tmp_path / "whole")) == total
    assert rows(tmp_path / "killed") == rows(tmp_path / "whole")
    assert numbers(tmp_path / "killed") == numbers(tmp_path / "whole")
    config = read_config(tmp_path / "killed")
    assert config["finished"]
    assert len(config["resumed"]) == 3


def test_an_interruption_leaves_numbers(tmp_path: Path) -> None:
    (tmp_path / "dawdler.py").write_text(AGENT)
    command = [
        sys.executable,
        "-m",
        "sdar_benchmarks.cli",
        "eval",
        "sdar/ALFWorld-v0",
        "--agent",
        "dawdler:Dawdler",
    ]
    process = subprocess.Popen([*command, "--out", "run"], cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    while not ((tmp_path / "run" / EPISODES).exists() and (tmp_path / "run" / EPISODES).stat().st_size):
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert (process.returncode, errors) == (130, "interrupted\n")
    summary = read_summary(tmp_path / "run")
    assert summary["missing"] == 134 - len(read_episodes(tmp_path / "run"))
    assert "Not complete" in (tmp_path / "run" / runs.REPORT).read_text()


# -- refusals ---------------------------------------------------------------------------------


def test_a_run_is_not_overwritten(tmp_path: Path) -> None:
    play(tmp_path / "run", limit=2)
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    with pytest.raises(InvalidOption, match=r"holds a run already: continue it with --resume"):
        play(tmp_path / "run", limit=2)
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


def test_what_is_no_run_is_not_touched(tmp_path: Path) -> None:
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for name in ("thesis", "file"):
        for resume in (False, True):
            with pytest.raises(InvalidOption, match="exists and is no run folder"):
                play(tmp_path / name, limit=2, resume=resume)
    with pytest.raises(InvalidOption, match="cannot be written"):
        play(tmp_path / "file" / "run", limit=2)
    assert [path.name for path in (tmp_path / "thesis").iterdir()] == ["thesis.tex"]


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"seeds": (0, 1)}, r"seeds was \[0\] and is \[0, 1\]"),
        (
            {"limit": 3},
            r"panels\[0\]\.limit was 2 and is 3; panels\[0\]\.tasks was 2 and is 3; panels\[0\]\.fingerprint",
        ),
        ({"agent": "oracle", "panel": PanelSpec("sdar/ALFWorld-v0", None, 2)}, r"panels\[0\]\.env_id was .* and is"),
        (
            {"panel": PanelSpec(TOY, "valid", 2, {"max_steps": 3})},
            r"panels\[0\]\.env_kwargs\.max_steps was 8 and is 3\. ",
        ),
        ({"limits": Limits(episode_tokens=9)}, r"limits\.episode_tokens was None and is 9"),
    ],
)
def test_a_changed_configuration_is_refused_by_its_key(change: dict[str, Any], match: str, tmp_path: Path) -> None:
    play(tmp_path / "run", limit=2)
    before = (tmp_path / "run" / CONFIG).read_bytes()
    with pytest.raises(InvalidOption, match=rf"of another configuration: .*{match}"):
        play(tmp_path / "run", resume=True, **{"limit": 2, **change})
    assert (tmp_path / "run" / CONFIG).read_bytes() == before


SETTINGS = {"temperature": 0.4, "extra_body": {"a": 1}}


def test_an_agent_with_another_setting_is_another_agent() -> None:
    old = {"agent": {"name": "openai", "settings": SETTINGS}}
    new = {"agent": {"name": "openai", "settings": {"temperature": 1.0, "extra_body": {"a": 1, "b": 2}}}}
    assert runs.changed_keys(old, new) == [
        "agent.settings.temperature was 0.4 and is 1.0",
        "agent.settings.extra_body.b was None and is 2",
    ]
    # The same model may be served elsewhere the next day.
    assert runs.changed_keys(old, {"agent": {**old["agent"], "settings": {**SETTINGS, "base_url": "http://h"}}}) == []


def test_concurrency_attempts_and_machines_may_change(tmp_path: Path) -> None:
    play(tmp_path / "run", limit=2)
    edit(tmp_path / "run" / CONFIG, platform={"cpu": "abacus"}, revision="0" * 40)
    play(tmp_path / "run", limit=2, resume=True, concurrency=7, limits=Limits(attempts=9), command="again")
    [sitting] = read_config(tmp_path / "run")["resumed"]
    assert set(sitting) == {"at", "command", "concurrency", "revision", "platform", "limits"}
    assert (sitting["command"], sitting["concurrency"]) == ("again", 7)


def edit(path: Path, **fields: Any) -> None:
    path.write_text(json.dumps({**json.loads(path.read_text()), **fields}))


def test_another_version_is_refused(tmp_path: Path) -> None:
    play(tmp_path / "run", limit=2)
    edit(tmp_path / "run" / CONFIG, versions={"sdar-envs": "0.0.1", "python": "2.7"})
    with pytest.raises(InvalidOption, match=r"versions\.sdar-envs was '0\.0\.1' and is '[^']+'\. Give"):
        play(tmp_path / "run", limit=2, resume=True)
    edit(tmp_path / "run" / CONFIG, format=3)
    for read in (lambda: play(tmp_path / "run", limit=2, resume=True), lambda: read_config(tmp_path / "run")):
        with pytest.raises(InvalidOption, match=r"is a run of format 3, .* reads formats 1 and 2"):
            read()


def test_two_runs_cannot_write_to_one_folder(tmp_path: Path) -> None:
    evaluation = play(tmp_path / "run", limit=2)
    with (
        RunWriter(tmp_path / "run", evaluation.config, resume=True),
        pytest.raises(InvalidOption, match=rf"run is being written by process {os.getpid()} on .*: wait for it"),
    ):
        play(tmp_path / "run", limit=2, resume=True)
    # Reading needs no lock, and a lock that was given up is no lock.
    assert len(play(tmp_path / "run", limit=2, resume=True).episodes) == 2


def test_damage_is_told_by_file_and_line(tmp_path: Path) -> None:
    play(tmp_path / "run", limit=3)
    path = tmp_path / "run" / EPISODES
    lines = path.read_bytes().splitlines(keepends=True)
    for damage, match in (
        (b'{"env_id": \n', "is no JSON"),
        (b"[1]\n", r"holds \[1\]"),
        (b"{}\n", "line 2: env_id is missing"),
    ):
        path.write_bytes(lines[0] + damage + lines[2])
        with pytest.raises(CorruptData, match=match):
            play(tmp_path / "run", limit=3, resume=True)
    path.write_bytes(b"".join(lines))
    (tmp_path / "run" / CONFIG).write_text('{"format": 1')
    with pytest.raises(CorruptData, match=r"config\.json is no JSON"):
        read_config(tmp_path / "run")
    (tmp_path / "run" / CONFIG).write_text("[]")
    with pytest.raises(CorruptData, match=r"config\.json holds \[\]"):
        read_config(tmp_path / "run")
    for folder in (tmp_path, tmp_path / "nowhere", path):
        with pytest.raises(MissingData, match=r"has no config\.json; wanted the folder of a run"):
            read_config(folder)


# -- a full disk ------------------------------------------------------------------------------


class FullDisk:
    """A file that takes so many bytes in all, then half a line, then nothing."""

    def __init__(self, file: Any, room: list[int]) -> None:
        self._file, self._room = file, room

    def write(self, data: memoryview) -> int:
        if self._room[0] <= 0:
            raise OSError(28, "No space left on device")
        written = self._file.write(data[: self._room[0]])
        self._room[0] -= written
        return written

    def __getattr__(self, name: str) -> Any:
        return getattr(self._file, name)


@pytest.mark.parametrize("room", [0, 100, 4000, 9000])
def test_a_full_disk_stops_the_run_and_harms_nothing(
    room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    append = runs.append_row
    left = [room]
    monkeypatch.setattr(runs, "append_row", lambda file, row, **how: append(FullDisk(file, left), row, **how))
    with pytest.raises(RunStopped, match=r"run can no longer be written to \(\[Errno 28\] No space.*--resume"):
        play(tmp_path / "run", concurrency=3)
    monkeypatch.setattr(runs, "append_row", append)
    # Not half a line is left, no trajectory without its episode, and the numbers are those of what is there.
    assert len(read_episodes(tmp_path / "run")) == len(list(read_trajectories(tmp_path / "run")))
    assert b"".join((tmp_path / "run" / name).read_bytes() for name in (EPISODES, TRAJECTORIES)).count(b"\n") == len(
        rows(tmp_path / "run")
    )
    assert read_summary(tmp_path / "run")["missing"] == 30 - len(read_episodes(tmp_path / "run"))
    play(tmp_path / "run", resume=True)
    play(tmp_path / "whole")
    assert rows(tmp_path / "run") == rows(tmp_path / "whole")


def test_no_room_for_the_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(path: Path, content: str) -> None:
        if path.name == SUMMARY:
            raise OSError(28, "No space left on device")
        path.write_text(content)

    monkeypatch.setattr(runs, "write_atomic", write)
    with pytest.raises(RunStopped, match="No space left"):
        play(tmp_path / "run")
    monkeypatch.undo()
    assert read_config(tmp_path / "run")["finished"] is None
    play(tmp_path / "run", resume=True)
    assert len(read_episodes(tmp_path / "run")) == 30


# -- odds and ends ----------------------------------------------------------------------------


def test_the_last_attempt_counts() -> None:
    def attempt(task_id: str, number: int, seed: int = 0) -> Episode:
        return Episode(
            TOY, task_id, "t", "valid", seed, number, "ok", False, 0.0, 0.0, 1, 0, None, False, True, "step_limit",
            None, None, None, None, 0.0, 0.0,
        )  # fmt: skip

    a1, b1, a2, c1 = attempt("a", 1), attempt("b", 1), attempt("a", 2), attempt("a", 1, seed=1)
    assert final_episodes([a1, b1, a2, c1]) == [a2, b1, c1]
    assert Episode.from_json({**a1.to_json(), "new": 1}) == a1
    assert "return" in a1.to_json()
    assert dataclasses.replace(a2, attempt=1) == a1


def test_what_is_no_text_or_json_is_kept_nevertheless(tmp_path: Path) -> None:
    evaluation = play(tmp_path / "run", limit=1)
    row = {"messages": {1, 2}, "response": "\ud800 é"}
    with RunWriter(tmp_path / "run", evaluation.config, resume=True) as writer:
        writer.append(evaluation.episodes[0], row)
    *_, kept = read_trajectories(tmp_path / "run")
    assert kept == {"messages": "{1, 2}", "response": "\ud800 é"}


# -- scale ------------------------------------------------------------------------------------


def resident_megabytes() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 1e6


def ideal_seconds(episodes: list[Episode], concurrency: int, scale: float) -> float:
    """Return how long the endpoint alone would take, with the next episode begun whenever one ends."""
    free = [0.0] * concurrency
    for episode in episodes:
        start = derive_seed(episode.seed, episode.task_id)
        free.sort()
        free[0] += sum(heavy_tail((start + turn) % 2**31, scale) for turn in range(episode.steps))
    return max(free)


@pytest.mark.slow
def test_a_thousand_episodes_64_at_a_time_wait_for_the_endpoint_alone(tmp_path: Path) -> None:
    scale, concurrency, memory = 0.2, 64, {}

    def progress(tally: Tally) -> None:
        if tally.done in (200, 1000):
            memory[tally.done] = resident_megabytes()

    command = [sys.executable, Path(__file__).parents[2] / "helpers" / "endpoints.py", str(scale)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        url = server.stdout.readline().strip()
        entrant = open_agent("openai", {"model": "mock", "base_url": url}, [TOY])
        plan = Plan([PanelSpec(TOY, "train", 1000)], concurrency=concurrency)
        started = time.perf_counter()
        evaluation = evaluate(plan, entrant, out=tmp_path / "run", progress=progress)
        seconds = time.perf_counter() - started
        server.communicate()
    assert {row.status for row in evaluation.episodes} == {"ok"}
    ideal = ideal_seconds(list(evaluation.episodes), concurrency, scale)
    written = (tmp_path / "run" / TRAJECTORIES).stat().st_size / 1e6
    print(f"{seconds:.1f} s, ideal {ideal:.1f} s, ratio {seconds / ideal:.3f}")
    print(f"{memory[200]:.1f} MB after 200 episodes, {memory[1000]:.1f} MB after 1,000; {written:.1f} MB written")
    assert seconds < 1.15 * ideal
    assert written > 15
    assert memory[1000] - memory[200] < 5
