"""Actions beside the records, and records that are checked by playing them again."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path

import pytest
from helpers.retrieval_servers import Server
from helpers.run_folders import ALFWORLD, WEBSHOP, config, episode, trajectory, turn, write_run

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.leaderboard import actions as actions_module
from sdar_benchmarks.leaderboard.actions import actions_path, read_actions
from sdar_benchmarks.leaderboard.adding import add_run
from sdar_benchmarks.leaderboard.records import load_record
from sdar_benchmarks.leaderboard.tables import render
from sdar_benchmarks.leaderboard.verifying import verify
from sdar_envs.errors import CorruptData, MissingData, UnknownName

SEARCH = "sdar/SearchQA-v0"
REVISION = "0123456789abcdef" * 2 + "01234567"


def play(root: Path, *arguments: str, env_ids: tuple[str, ...], agent: str = "random", limit: int = 4) -> list[Path]:
    """Records of a run that is played here."""
    run = str(root / "run")
    line = ["eval", *env_ids, "--agent", agent, "--limit", str(limit), "--out", run, *arguments]
    assert main(line) == 0
    return add_run(root / "run", root)


@pytest.fixture(autouse=True)
def clean(monkeypatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.evaluation.evaluate.revision", lambda: REVISION)


@pytest.fixture(scope="module")
def played(tmp_path_factory) -> Path:
    """A run of the shop, and its record."""
    folder = tmp_path_factory.mktemp("played")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sdar_benchmarks.evaluation.evaluate.revision", lambda: REVISION)
        play(folder, "--seeds", "2", env_ids=(WEBSHOP,), agent="rule")
    return folder


@pytest.fixture
def record(played, tmp_path) -> Path:
    shutil.copytree(played, tmp_path, dirs_exist_ok=True)
    [path] = (tmp_path / "results").glob("*.json")
    return path


def change(record: Path, edit, *, sign: bool = True) -> None:
    """Edit the episodes in the file of actions; with `sign`, the record has its new digest."""
    path = actions_path(record)
    rows = [json.loads(line) for line in gzip.decompress(path.read_bytes()).splitlines()]
    edit(rows)
    path.write_bytes(gzip.compress("".join(json.dumps(row) + "\n" for row in rows).encode(), mtime=0))
    if sign:
        content = json.loads(record.read_text())
        content["actions"] = {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        record.write_text(json.dumps(content))


def test_all_suites_play_again_as_recorded(tmp_path, capsys) -> None:
    records = play(tmp_path, "--seeds", "2", env_ids=(ALFWORLD, WEBSHOP, SEARCH))
    assert len(records) == 3
    capsys.readouterr()
    assert main(["leaderboard", "verify", str(tmp_path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3
    assert all("8 episodes played again in " in line and line.endswith(" s, all as recorded") for line in lines)
    render(tmp_path)
    text = (tmp_path / "LEADERBOARD.md").read_text()
    assert all(f"[actions](results/{actions_path(path).name})" in text for path in records)
    assert text.count("| random (floor) |") == 3


def test_agents_that_give_up_and_actions_that_are_refused(tmp_path) -> None:
    """An oracle gives up where it knows no plan; a command may be nonsense or half of a surrogate pair."""
    [path] = play(tmp_path, env_ids=(SEARCH,), agent="oracle", limit=6)
    assert verify(path).difference == ""

    def shorten(rows: list[dict]) -> None:
        del rows[0]["actions"][-1]
        rows[0] |= {"stop_reason": "gave_up", "is_success": False, "score": 0.0}
        rows[1]["actions"][0] = "dance \ud800"

    change(path, shorten)
    assert "seed 0: it is over" not in verify(path).difference
    assert verify(path).difference.startswith("metrics.success.value is 1.0 in the record, and ")


def test_the_actions_are_the_same_bytes_again(record, tmp_path) -> None:
    before = actions_path(record).read_bytes()
    assert add_run(tmp_path / "run", tmp_path) == [record]
    assert actions_path(record).read_bytes() == before
    facts = load_record(record)["actions"]
    assert facts == {"bytes": len(before), "sha256": hashlib.sha256(before).hexdigest()}
    rows = [json.loads(line) for line in gzip.decompress(before).splitlines()]
    assert [(row["seed"], row["task_id"]) for row in rows] == sorted((row["seed"], row["task_id"]) for row in rows)
    assert len(rows) == 8


@pytest.mark.parametrize("sign", [True, False])
@pytest.mark.parametrize(
    ("edit", "says"),
    [
        (lambda row: row.update(score=row["score"] / 2 + 0.25), "the score is "),
        (lambda row: row.update(is_success=not row["is_success"]), "the task is "),
        (lambda row: row["actions"].append("search[a]"), "it is over after "),
        (lambda row: row["actions"].pop(), "in the record, the task's end was reached"),
        (lambda row: row.update(stop_reason="step_limit"), "in the record, the steps ran out"),
        (lambda row: row.update(task_id="webshop/test/9999"), "there are no actions of this episode"),
    ],
)
def test_the_first_episode_that_differs_is_named(record, edit, says: str, sign: bool, capsys) -> None:
    task = json.loads(gzip.decompress(actions_path(record).read_bytes()).splitlines()[0])["task_id"]
    change(record, lambda rows: edit(rows[0]), sign=sign)
    capsys.readouterr()
    assert main(["leaderboard", "verify", str(record)]) == 1
    err = capsys.readouterr().err
    assert err.count("\n") == 1
    assert f"differs: the task {task}, seed 0: " in err
    assert says in err
    assert ("is not the file that the record is about" in err) is not sign


def test_a_file_of_another_run_is_told_even_if_it_plays_the_same(record, capsys) -> None:
    change(record, lambda rows: rows.reverse(), sign=False)
    assert verify(record).difference.endswith(".actions.jsonl.gz is not the file that the record is about")
    change(record, lambda rows: rows.append({**rows[0], "task_id": "webshop/test/9999"}))
    assert verify(record).difference == "the task webshop/test/9999, seed 1: the record has no such episode"


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("metrics.score.value", 0.99, "metrics.score.value is 0.99 in the record, and 0."),
        ("metrics.invalid", 0.5, "metrics.invalid is 0.5 in the record, and 0.0"),
        ("metrics.steps", 1.0, "metrics.steps is 1.0 in the record"),
        ("metrics.task_types", {}, "metrics.task_types is {} in the record"),
        ("panel.fingerprint", "f" * 32, "the panel's fingerprint is "),
        ("panel.data_flags", {"title_nouns": "guessed"}, "title_nouns=guessed in the record"),
    ],
)
def test_totals_and_panel_are_checked(record, path: str, value, says: str) -> None:
    content = json.loads(record.read_text())
    *parents, name = path.split(".")
    part = content
    for parent in parents:
        part = part[parent]
    part[name] = value
    if name == "value":
        part["high"] = 1.0
    from sdar_benchmarks.leaderboard.records import file_name

    changed = record.with_name(file_name(content))
    changed.write_text(json.dumps(content))
    actions_path(changed).write_bytes(actions_path(record).read_bytes())
    assert says in verify(changed).difference


def test_what_cannot_be_verified_is_said(record, tmp_path, capsys) -> None:
    path = actions_path(record)
    content = path.read_bytes()
    path.unlink()
    with pytest.raises(MissingData, match="has actions, but there is no file"):
        verify(record)
    for damaged in (
        content[:-9],
        content + b"x",
        b"",
        b"none",
        gzip.compress(b"[]\n"),
        gzip.compress(b'{"seed": 0}\n'),
    ):
        path.write_bytes(damaged)
        with pytest.raises(CorruptData, match=r"actions\.jsonl\.gz"):
            verify(record)
    change_back = json.loads(record.read_text())
    for older in (None, ...):
        if older is ...:
            del change_back["actions"]
        else:
            change_back["actions"] = None
        record.write_text(json.dumps(change_back))
        capsys.readouterr()
        assert main(["leaderboard", "verify", str(record.parent)]) == 2
        err = capsys.readouterr().err
        assert "cannot be verified: " in err
        assert "has no actions" in err
        assert err.count("\n") == 1
    record.write_text(json.dumps({**change_back, "actions": {"bytes": 1, "sha256": "0"}}))
    with pytest.raises(CorruptData, match=r"actions is .*; wanted an object with bytes"):
        verify(record)
    with pytest.raises(UnknownName, match=r"max_steps is part of the record.*data_dir"):
        verify(record, {"max_steps": 3})
    (tmp_path / "empty").mkdir()
    assert main(["leaderboard", "verify", str(tmp_path / "empty")]) == 2


def test_official_data_that_are_not_there(tmp_path, monkeypatch) -> None:
    from sdar_benchmarks.leaderboard.records import file_name

    [path] = play(tmp_path, env_ids=(WEBSHOP,), limit=2)
    content = json.loads(path.read_text())
    content["env_kwargs"] = {"data": "official"}
    changed = path.with_name(file_name(content))
    changed.write_text(json.dumps(content))
    actions_path(changed).write_bytes(actions_path(path).read_bytes())
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "nothing"))
    with pytest.raises(MissingData):
        verify(changed)


def test_an_address_in_a_record_is_not_asked(tmp_path) -> None:
    from sdar_benchmarks.leaderboard.records import file_name

    [path] = play(tmp_path, env_ids=(SEARCH,), limit=2)
    content = json.loads(path.read_text())
    content["env_kwargs"] = {"retriever": "http://127.0.0.1:9"}
    changed = path.with_name(file_name(content))
    changed.write_text(json.dumps(content))
    actions_path(changed).write_bytes(actions_path(path).read_bytes())
    assert verify(changed).difference == ""


def test_a_search_engine_over_http_is_named_by_the_user(tmp_path, capsys) -> None:
    def check(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return main(["leaderboard", "verify", str(path), *arguments]), "".join(capsys.readouterr())

    with Server() as server:
        address = f"retriever={server.url}"
        [path] = play(tmp_path, "--set", address, env_ids=(SEARCH,), limit=3)
        status, told = check()
        assert status == 1
        assert "differs: the panel's variant is fixed, topk 3, max_steps 8, bm25:" in told
        assert "or name other data or another search engine by --set" in told
        asked = len(server.bodies)
        status, told = check("--set", address)
        assert (status, told.count("\n")) == (0, 1)
        assert "3 episodes played again" in told
        assert len(server.bodies) > asked
    status, told = check("--set", address)
    assert (status, told.count("\n")) == (2, 1)
    assert "cannot be verified: " in told


def test_trajectories_that_are_not_those_of_the_episodes(tmp_path) -> None:
    rows = [episode(i) for i in range(2)]
    folder = write_run(tmp_path / "run", rows, [trajectory(rows[0])], config())
    with pytest.raises(CorruptData, match="no trajectory of the task alfworld/valid_unseen/0001, seed 0"):
        add_run(folder, tmp_path)
    for changes in ({"score": 0.5}, {"turns": [turn()]}, {"turns": [turn(action=None)] * 2}):
        write_run(tmp_path / "run", rows, [trajectory(rows[0]), trajectory(rows[1]) | changes], config())
        with pytest.raises(CorruptData, match="0001, seed 0, is not that of the episode"):
            add_run(folder, tmp_path)
    assert not (tmp_path / "results").exists()


def test_actions_that_are_too_large_are_not_kept(record, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(actions_module, "LARGEST", 100)
    with pytest.warns(RuntimeWarning, match="so they are not kept: the row cannot be verified"):
        add_run(tmp_path / "run", tmp_path, replace=True)
    assert load_record(record)["actions"] is None
    assert not actions_path(record).exists()
    with pytest.raises(MissingData):
        read_actions(record, load_record(record))


def test_data_that_score_differently_are_a_panel_of_their_own(tmp_path) -> None:
    flags = {"title_nouns": "guessed"}
    add_run(write_run(tmp_path / "a", [episode(i) for i in range(2)], settings=config()), tmp_path)
    rows = [episode(i, data_flags=flags) for i in range(2)]
    [path] = add_run(write_run(tmp_path / "b", rows, settings=config()), tmp_path)
    assert load_record(path)["panel"]["data_flags"] == flags
    render(tmp_path)
    text = (tmp_path / "LEADERBOARD.md").read_text()
    assert text.count("## sdar/ALFWorld-v0") == 2
    assert "on data that depart from the reference ones (title_nouns=guessed)." in text


def test_a_models_row_shows_what_is_needed_to_believe_it(tmp_path) -> None:
    skills = {"retriever": "task_type", "k": 6, "library": ["/home/somebody/mine"], "content": {"a@1": "f" * 64}}
    settings = {
        "model": "m",
        "style": "/home/somebody/style.yaml",
        "history": "appended",
        "action_format": "json",
        "skills": skills,
    }
    rows = [
        episode(i, malformed_answers=1, truncated_answers=i, prompt_tokens=900, completion_tokens=100, cost=0.25)
        for i in range(2)
    ]
    folder = write_run(tmp_path / "run", rows, settings=config(agent={"name": "openai", "settings": settings}))
    [path] = add_run(folder, tmp_path)
    assert load_record(path)["settings"]["skills"]["library"] == ["mine"]
    add_run(write_run(tmp_path / "other", [episode(i) for i in range(2)], settings=config()), tmp_path)
    render(tmp_path)
    lines = (tmp_path / "LEADERBOARD.md").read_text().splitlines()
    [at] = [i for i, line in enumerate(lines) if line.startswith("| agent |")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[at : at + 4]]
    shown = dict(zip(cells[0], next(row for row in cells[2:] if row[0] == "openai"), strict=True))
    wanted = {
        "prompt": "style.yaml, appended",
        "action format": "json",
        "skills": "task_type, k=6, of 1",
        "tasks × seeds": "2 × 1",
        "malformed": "50.0%",
        "cut off": "25.0%",
        "tokens": "1,000",
        "cost": "0.5",
    }
    assert {name: shown[name] for name in wanted} == wanted
    scripted = dict(zip(cells[0], next(row for row in cells[2:] if row[0] == "explorer"), strict=True))
    assert {scripted[name] for name in wanted if name != "tasks × seeds"} == {"–"}


MODULE = """
import itertools
import gymnasium as gym
from helpers.toy import CountingEnv

moods = itertools.count()


class Moody(CountingEnv):
    blocks_on_io = True

    def _begin(self, task):
        self._mood = next(moods)
        return super()._begin(task)

    def _act(self, action):
        outcome = super()._act(action)
        return outcome._replace(score=1.0 * self._mood) if self._mood > 9 else outcome

    def _env_id(self):
        return "moody/Counting-v0"


gym.register(id="moody/Counting-v0", entry_point=Moody)
"""


def test_an_environment_of_ones_own_and_one_that_answers_otherwise(tmp_path, monkeypatch, capsys) -> None:
    (tmp_path / "moody_module.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    [path] = play(tmp_path, "--split", "valid", env_ids=("moody_module:moody/Counting-v0",), limit=2)
    # The panel's fingerprint needs a reset of each task.
    capsys.readouterr()
    assert main(["leaderboard", "verify", str(path)]) == 0
    told = capsys.readouterr()
    assert "2 episodes played again" in told.out
    assert "importing an environment, 'moody_module:moody/Counting-v0', which" in told.err
    import moody_module

    moody_module.moods = iter(range(10, 30))
    found = verify(path)
    assert found.episodes == 1
    assert found.difference.startswith("the task toy/valid/")
    assert found.difference.endswith(
        " (this environment asks a server or an index, and a server may answer otherwise than it did)"
    )
