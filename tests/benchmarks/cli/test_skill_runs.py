"""Models that read skills: evaluation, ablation, trials, and what is refused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import gymnasium as gym
import pytest
from helpers.endpoints import act, chat, serving
from helpers.skill_models import ENV_ID, reader_of, write_library

from sdar_benchmarks.analysis.tables import TextTable
from sdar_benchmarks.analysis.terminal import print_table
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.runs import read_config, read_episodes, read_trajectories
from sdar_skills import Library

Run = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def _toy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    gym.register(id=ENV_ID, entry_point="helpers.toy:CountingEnv")
    yield
    del gym.registry[ENV_ID]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    def run(*arguments: object) -> tuple[int, str, str]:
        status = main([str(argument) for argument in arguments])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def model(url: str, library: Path) -> tuple[object, ...]:
    return "--agent", "openai", "--model", "m", "--base-url", url, "--library", library, "--no-builtin"


def test_a_model_reads_skills_and_each_turn_says_which(run: Run, tmp_path: Path) -> None:
    library = write_library(tmp_path / "lib")
    out = tmp_path / "run"
    arguments = ("eval", ENV_ID, "--split", "valid", "--limit", 6, "--skills", "task_type", "--k", 2, "--out", out)
    with serving(reader_of("go-up")) as server:
        status, _, error = run(*arguments, *model(server.url, library))
        assert (status, error) == (0, "")
        shown = Library.load(library, builtin=False)
        for row in read_trajectories(out):
            own = ["go-up", "say-up"] if row["task_type"] == "count_up" else ["go-down", "be-calm"]
            for turn in row["turns"]:
                assert turn["skills"] == [f"toy/{name}@1.0.0" for name in own]
                assert turn["skill_hashes"] == [shown[f"toy/{name}"].sha256 for name in own]
                assert turn["dropped_skills"] == []
                assert f"### {own[0]}" in turn["messages"][0]["content"]
        won = {row["task_type"] for row in read_trajectories(out) if row["is_success"] and len(row["turns"]) > 1}
        assert "count_up" in won
        skills = read_config(out)["agent"]["settings"]["skills"]
        assert (skills["retriever"], skills["k"], skills["library"], skills["reader"]) == (
            "task_type",
            2,
            [str(library)],
            "student",
        )
        assert skills["content"]["toy/go-up@1.0.0"] == shown["toy/go-up"].sha256
        # The run is resumed as it was begun, with the library of that time alone.
        assert run("eval", "--resume", "--out", out)[0] == 0
        assert run(*arguments, *model(server.url, library), "--resume")[0] == 0
        path = library / "toy/go-up/SKILL.md"
        path.write_text(path.read_text().replace("This is go-up.", "Another text."))
        status, _, error = run("eval", "--resume", "--out", out)
        assert status == 2
        assert "agent.settings.skills.content.toy/go-up@1.0.0 was" in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--agent", "oracle", "--skills", "task_type"), "the oracle agent is a script, which reads no skills"),
        (("--skills", "task_type"), "is a script, which reads no skills: choose a model with --agent openai or"),
        (("--agent", "random", "--k", "3"), "k of skills is given, but no strategy: add --skills task_type"),
        (("--model", "--skills", "task-type"), "Did you mean 'task_type'?"),
        (("--model", "--skills", "ucb"), "name its file with --skills-set ledger="),
        (("--model", "--skills", "task_type", "--skill-tokens", "9"), "there is no tokenizer here to count by"),
        (("--model", "--skills", "task_type", "--skills-set", "max_prompt_tokens=9"), "has no tokenizer here"),
        (("--model", "--skills", "task_type", "--skills-set", "kk=9"), "no setting 'skills.kk'"),
        (("--model", "--skills", "task_type", "--placement", "legacy_prefix"), "an endpoint takes nothing else"),
        (("--model", "--skills", "task_type", "--agent-set", "history=appended"), "leave them out"),
        (("--model", "--skills", "task_type", "--skills-set", "leave_out=toy/go-upp"), "Did you mean 'toy/go-up'?"),
        (("--model", "--skills-ablation", "--out", "x"), "an ablation is of skills"),
        (("--model", "--skills", "task_type", "--skills-ablation"), "name it with --out"),
    ],
)
def test_what_cannot_be_read_is_refused(run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    if "--model" in arguments:
        given = model("http://127.0.0.1:9/v1", write_library(tmp_path / "lib"))
        if "--skills" not in arguments:
            given = given[:6]
        arguments = (*map(str, given), *(part for part in arguments if part != "--model"))
    status, _, error = run("eval", ENV_ID, "--split", "valid", "--limit", 2, *arguments)
    assert (status, len(error.splitlines())) == (2, 1), error
    assert words in error


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("eval", ENV_ID, "--measure", "success"), "--measure says what an ablation compares"),
        (("eval", "--resume", "--skills-ablation", "--out", "x"), "go on by its whole command line"),
        (("skills", "trial", "--resume", "--out", "x"), "give the whole command line of the trial to resume it"),
    ],
)
def test_options_that_do_not_go_together(
    run: Run, arguments: tuple[str, ...], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as refused:
        run(*arguments)
    assert refused.value.code == 2
    assert words in capsys.readouterr().err


def test_names_in_tables_are_whole_in_a_pipe(capsys: pytest.CaptureFixture[str]) -> None:
    name = "a-skill-with-a-name-that-is-longer-than-others" * 2
    print_table(TextTable(("skill", "verdict"), ((name, "no effect found"), (name + "2", "helps"))))
    out = capsys.readouterr().out
    assert f"{name}   no effect found" in out
    assert f"{name}2            helps" in out


def test_an_ablation_finds_the_skill_that_helps(run: Run, tmp_path: Path) -> None:
    library, out = write_library(tmp_path / "lib"), tmp_path / "ablation"
    arguments = (
        "eval",
        ENV_ID,
        "--split",
        "valid",
        "--skills",
        "task_type",
        "--k",
        3,
        "--skills-ablation",
        "--out",
        out,
    )
    with serving(reader_of("go-up")) as server:
        status, printed, error = run(*arguments, *model(server.url, library))
        assert (status, error) == (0, "")
        report = json.loads((out / "ablation.json").read_text())
        found = {effect["name"]: effect for effect in report["effects"]}
        assert set(found) == {"all skills", "toy/go-up", "toy/say-up", "toy/go-down", "toy/be-calm", "shuffled"}
        assert found["toy/go-up"]["verdict"] == found["all skills"]["verdict"] == "helps"
        for name in ("toy/say-up", "toy/go-down", "toy/be-calm"):
            assert (found[name]["effect"], found[name]["verdict"]) == (0, "no effect found")
        # Only the tasks in which a skill was shown are played without it.
        everything = {episode.task_id: episode.task_type for episode in read_episodes(out / "all")}
        without = {episode.task_id for episode in read_episodes(out / "without-toy-go-up")}
        assert without == {task for task, kind in everything.items() if kind == "count_up"}
        assert found["toy/go-up"]["episodes"] == len(without)
        wrong = {
            skill for row in read_trajectories(out / "shuffled") for turn in row["turns"] for skill in turn["skills"]
        }
        assert wrong == {f"toy/{name}@1.0.0" for name in ("go-up", "say-up", "go-down")}
        for row in read_trajectories(out / "shuffled"):
            own = "up" if row["task_type"] == "count_up" else "down"
            assert not any(f"-{own}@" in skill for turn in row["turns"] for skill in turn["skills"])
        assert all(turn["skills"] == [] for row in read_trajectories(out / "none") for turn in row["turns"])
        assert "toy/go-up" in printed
        assert "| adjusted p |" in (out / "ablation.md").read_text()
        # What is there is not played again.
        before = len(server.requests)
        (out / "ablation.json").unlink()
        assert run(*arguments, *model(server.url, library), "--resume")[0] == 0
        assert len(server.requests) == before
        assert json.loads((out / "ablation.json").read_text()) == report


def test_an_ablation_without_skills_in_prompts_is_refused(run: Run, tmp_path: Path) -> None:
    with serving(lambda body: act("up")) as server:
        status, _, error = run(
            "eval",
            ENV_ID,
            "--split",
            "valid",
            "--limit",
            2,
            "--skills",
            "none",
            "--skills-ablation",
            "--out",
            tmp_path / "x",
            *model(server.url, write_library(tmp_path / "lib")),
        )
    assert status == 2
    assert "there is nothing to leave out" in error


# -- proposals and trials ---------------------------------------------------------------------


def test_a_proposed_skill_is_tried_and_promoted(run: Run, tmp_path: Path) -> None:
    library, episodes, trial = tmp_path / "lib", tmp_path / "episodes", tmp_path / "trial"
    played = ("eval", ENV_ID, "--agent", "random", "--limit", 12, "--seeds", 2, "--out")
    assert run(*played, episodes, "--split", "train")[0] == 0
    status, printed, _ = run("skills", "propose", episodes, "--library", library)
    assert status == 0
    proposed = {skill.task_type: skill for skill in Library.load(library, builtin=False)}
    assert set(proposed) == {"count_up", "count_down"}
    assert {skill.status for skill in proposed.values()} == {"shadow"}
    assert "episodes toy/train/" in proposed["count_up"].origin
    assert "2 skills on trial from 24 episodes" in printed
    # The same again is nothing new.
    assert "is the same" in run("skills", "propose", episodes, "--library", library)[2]

    up, down = proposed["count_up"], proposed["count_down"]
    tried = ("skills", "trial", ENV_ID, "--limit", 20, "--max-steps", 5, "--min-tasks", 5, "--out", trial)
    with serving(reader_of(up.name)) as server:
        status, printed, error = run(*tried, *model(server.url, library))
        assert (status, error) == (0, "")
        verdicts = {row["skill"]: row for row in json.loads((trial / "trial.json").read_text())["verdicts"]}
        assert (verdicts[up.id]["status"], verdicts[down.id]["status"]) == ("active", "shadow")
        assert verdicts[down.id]["difference"] == 0
        # Each is shown alone, to tasks of its type.
        for row in read_trajectories(trial / up.id.replace("/", "-")):
            assert row["task_type"] == "count_up"
            assert all(turn["skills"] == [f"{up.id}@1.0.0"] for turn in row["turns"])
        # Judged again, the verdict is the same, and nothing is counted twice.
        before = len(server.requests)
        assert run(*tried, *model(server.url, library), "--resume")[:2] == (0, printed)
        assert len(server.requests) == before
    assert run("skills", "stats", trial / "ledger.sqlite")[0] == 0

    assert "the trial leaves" in run("skills", "promote", down.id, "--library", library, "--trial", trial)[2]
    status, printed, _ = run("skills", "promote", "--library", library, "--trial", trial)
    assert status == 0
    now = Library.load(library, builtin=False)[up.id]
    assert (now.status, now.sha256, now.version) == ("active", up.sha256, "1.0.0")
    assert "trial trial: +" in now.metadata["status-reason"]
    assert now.metadata["split"] == "train"
    assert "is active already" in run("skills", "promote", up.id, "--library", library, "--why", "x")[2]
    assert run("skills", "retire", up.id, "--library", library, "--why", "It is too long.")[0] == 0
    now = Library.load(library, builtin=False)[up.id]
    assert (now.status, now.metadata["status-reason"].endswith(": It is too long.")) == ("retired", True)


def test_held_out_episodes_teach_nothing(run: Run, tmp_path: Path) -> None:
    assert (
        run("eval", ENV_ID, "--agent", "random", "--limit", 2, "--split", "valid", "--out", tmp_path / "held")[0] == 0
    )
    status, _, error = run("skills", "propose", tmp_path / "held", "--library", tmp_path / "lib")
    assert (status, len(error.splitlines())) == (2, 1)
    assert "wanted episodes of 'train' only" in error
    assert not (tmp_path / "lib").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("propose", "nowhere", "--library", "lib"), "nowhere has no trajectories.jsonl"),
        (("propose", "nowhere", "--library", "lib", "--base-url", "http://x/v1"), "add --model"),
        (("trial", ENV_ID, "--library", "lib", "--model", "m"), "name both with --out and --library"),
        (("trial", ENV_ID, "--library", "lib", "--out", "o", "--limit", "2"), "no skill on trial for toy"),
        (
            ("trial", ENV_ID, "--limit", "2", "--library", "lib", "--out", "o", "--skill", "toy/go-upp"),
            "Did you mean 'toy/go-up'?",
        ),
        (
            ("trial", ENV_ID, "--library", "lib", "--out", "o", "--skill", "toy/go-up", "--split", "valid"),
            "wanted 'train'",
        ),
        (("promote", "toy/go-up", "--library", "lib"), "wanted --trial OUT, or skills by their ids with --why TEXT"),
        (("retire", "toy/go-upp", "--library", "lib", "--why", "x"), "Did you mean 'toy/go-up'?"),
        (("retire", "--library", "lib", "--trial", "lib"), "lib has no trial.json"),
    ],
)
def test_refusals(run: Run, tmp_path: Path, arguments: tuple[str, ...], words: str) -> None:
    write_library(tmp_path / "lib")
    status, _, error = run("skills", *arguments)
    assert (status, len(error.splitlines())) == (2, 1), error
    assert words in error


def test_a_model_proposes(run: Run, tmp_path: Path) -> None:
    assert run("eval", ENV_ID, "--agent", "random", "--limit", 4, "--split", "train", "--out", tmp_path / "e")[0] == 0
    skill = {
        "title": "count",
        "description": "How to count.",
        "text": "Count.",
        "scope": "all kinds",
        "episodes": ["E1"],
    }
    with serving(lambda body: chat(json.dumps({"skills": [skill]}))) as server:
        status, _, error = run(
            "skills", "propose", tmp_path / "e", "--library", tmp_path / "lib", "--model", "m", "--base-url", server.url
        )
    assert status == 0, error
    [written] = Library.load(tmp_path / "lib", builtin=False)
    assert (written.task_type, written.created_by, written.status) == (None, "m", "shadow")


# -- prompts ----------------------------------------------------------------------------------


def test_the_prompts_of_teacher_and_student(run: Run, tmp_path: Path) -> None:
    library = write_library(tmp_path / "lib")
    asked = ("skills", "prompt", "toy/valid/0003", "--env", ENV_ID, "--library", library, "--no-builtin")
    status, printed, error = run(*asked, "--k", 2, "--turn", 1)
    assert (status, error) == (0, "")
    student, _, teacher = printed.partition("=== teacher: ")
    assert "### " not in student
    assert "### go-" in teacher
    assert "words" in student.splitlines()[0]
    assert "(tokens with --tokenizer)" in student.splitlines()[0]
    assert printed.splitlines()[-1] == "dropped for the limit: no skill, 0 turns of history"
    assert "nothing counts them: name a folder with --tokenizer" in run(*asked, "--max-prompt-tokens", 9)[2]


def test_lengths_in_tokens_and_what_is_dropped(run: Run, tmp_path: Path) -> None:
    pytest.importorskip("torch")
    from helpers.tiny_chat import tiny_tokenizer

    library, folder = write_library(tmp_path / "lib"), tmp_path / "model"
    tiny_tokenizer().save_pretrained(folder)
    asked = ("skills", "prompt", "toy/valid/0003", "--env", ENV_ID, "--library", library, "--no-builtin")
    status, printed, error = run(*asked, "--tokenizer", folder)
    assert (status, error) == (0, "")
    tokens = int(printed.partition("=== teacher: ")[2].split()[0].replace(",", ""))
    assert printed.count("shown: ") >= 2
    status, printed, error = run(*asked, "--tokenizer", folder, "--max-prompt-tokens", tokens - 1)
    assert (status, error) == (0, "")
    assert printed.count("dropped: ") == 1
    assert "dropped for the limit: toy/" in printed
