"""Run folders of others: whatever is in them, verbs end in 0 or in one line and 2, and sound rows are kept."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from helpers.hostile_folders import (
    EPISODE_FIELDS,
    FAULTS,
    TRAJECTORY_FIELDS,
    TURN_FIELDS,
    VALUES,
    add_lines,
    sound_run,
    with_value,
)
from helpers.run_folders import config, episode, trajectory, turn
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.records.metrics import METRICS, read_metrics
from sdar_benchmarks.records.runs import CONFIG, EPISODES, TRAJECTORIES, read_episodes
from sdar_benchmarks.records.schema import LeftOut
from sdar_benchmarks.records.trajectories import RunIndex
from sdar_benchmarks.reports.episode_html import episode_address
from sdar_benchmarks.reports.viewer import _Refusal, _Viewer

FILES = (CONFIG, EPISODES, TRAJECTORIES, METRICS)
CONFIG_FIELDS = (
    *config(),
    "panels.0",
    *(f"panels.0.{name}" for name in config()["panels"][0]),
    "agent.name",
    "agent.settings",
    "seeds.0",
    "limits.attempts",
    "versions.python",
)
# What fits, by field, of the values that are put there. The others of a row are refused.
WHOLE = frozenset({"1e9"})
AMOUNTS = frozenset({"1e9", "1e9 as a float", "fraction"})
TEXTS = frozenset({"text", "hostile text"})
FLAGS = frozenset({"true"})
FITTING = {
    **dict.fromkeys(("env_id", "task_id", "task_type", "split", "stop_reason"), TEXTS),
    **dict.fromkeys(("seed", "attempt", "steps"), WHOLE),
    "status": set(),
    **dict.fromkeys(("is_success", "terminated", "truncated"), FLAGS),
    **dict.fromkeys(("score", "return"), AMOUNTS | {"negative"}),
    **dict.fromkeys(("invalid_actions", "malformed_answers", "prompt_tokens", "completion_tokens"), WHOLE | {"null"}),
    "cost": AMOUNTS | {"null"},
    **dict.fromkeys(("seconds", "agent_seconds"), AMOUNTS),
    "data_set": TEXTS | {"null"},
    **dict.fromkeys(("error", "metrics"), frozenset({"object", "null"})),
    "data_flags": {"object", "object of objects", "null"},
}
BAD_NUMBERS = {"negative": -5, "fraction": 0.5, "1e9": 10**9, "1e9 as a float": 1e9}


@pytest.fixture(autouse=True)
def alarm() -> Iterator[None]:
    """A verb that waits for a pipe would wait for ever."""

    def ring(*_: object) -> None:
        raise AssertionError("a reader hangs")

    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(300)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def run(capsys: pytest.CaptureFixture[str], *argv: object) -> tuple[int, str, str]:
    status = main([str(part) for part in argv])
    out, err = capsys.readouterr()
    assert status in (0, 2)
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", out + err)
    errors = [line for line in err.splitlines() if not line.startswith("warning: ")]
    assert len(errors) == (status == 2), err
    assert all(line.startswith("error: ") for line in errors)
    return status, out, err


def use_all(capsys: pytest.CaptureFixture[str], folder: Path, other: Path, place: Path) -> None:
    """Let every verb that reads run folders read this one."""
    run(capsys, "report", folder)
    run(capsys, "report", folder, other, "--out", place / "both.html")
    run(capsys, "compare", folder, other)
    run(capsys, "compare", other, folder)
    run(capsys, "leaderboard", "add", folder, "--root", place / "board", "--replace")
    for page in place.rglob("*.html"):
        content = page.read_text(encoding="utf-8")
        assert "<script" not in content
        assert "<img" not in content


def pages_of(folder: Path) -> Iterator[str]:
    index = RunIndex(folder)
    viewer = _Viewer(index)
    yield viewer.answer("/").content
    for entry in index.refresh():
        for address in (episode_address(entry.id), episode_address(entry.id, path="/turn", more=[("turn", "1")])):
            with suppress(_Refusal):
                yield viewer.answer(address).content


# -- fields ---------------------------------------------------------------------------------


@pytest.mark.parametrize("field", EPISODE_FIELDS)
def test_every_field_of_an_episode(tmp_path: Path, field: str) -> None:
    folder = sound_run(tmp_path / "run")
    row = episode(9, data_set=None, metrics=None, data_flags=None)
    lines = {name: with_value(row, field, value) for name, value in VALUES.items()}
    add_lines(folder, EPISODES, lines.values())
    left_out = LeftOut(EPISODES)
    read = read_episodes(folder, left_out)
    refused = [number for number, name in enumerate(lines, 5) if name not in FITTING[field]]
    assert left_out.numbers == refused
    assert len(read) == 4 + len(FITTING[field])
    assert [e.task_id[-4:] for e in read[:4]] == ["0000", "0001", "0002", "0003"]
    assert str(len(refused)) in left_out.sentence()
    # The list of the viewer has the same rows.
    index = RunIndex(folder)
    assert len(index.refresh()) == 4 + len(FITTING[field])
    assert index.notes == [left_out.sentence()]


@pytest.mark.parametrize("field", [*TRAJECTORY_FIELDS, *(f"turns.0.{name}" for name in TURN_FIELDS)])
def test_every_field_of_a_trajectory(tmp_path: Path, field: str) -> None:
    folder = sound_run(tmp_path / "run")
    row = trajectory(episode(9))
    add_lines(folder, TRAJECTORIES, [with_value(row, field, value) for value in VALUES.values()])
    pages = list(pages_of(folder))
    assert pages[0].count("alfworld/valid_unseen/000") >= 4
    assert not any("<img" in page for page in pages)


@pytest.mark.parametrize("field", ["text", "gap", "gate"])
def test_every_field_of_a_token(tmp_path: Path, field: str) -> None:
    folder = sound_run(tmp_path / "run")
    row = trajectory(episode(9), [turn(tokens=[{"text": "x", "gap": 0.1, "gate": 0.2}])])
    add_lines(folder, TRAJECTORIES, [with_value(row, f"turns.0.tokens.0.{field}", text) for text in VALUES.values()])
    assert len(list(pages_of(folder))) > len(VALUES) // 2


def test_every_value_of_a_metric(tmp_path: Path) -> None:
    folder = sound_run(tmp_path / "run")
    lines = [with_value({"step": 9, "loss": 0}, field, text) for field in ("step", "loss") for text in VALUES.values()]
    add_lines(folder, METRICS, lines)
    left_out = LeftOut(METRICS)
    metrics = read_metrics(folder, left_out)
    unreadable = {"5000 digits", "nested 100,000 deep"}
    of_step = [i for i, name in enumerate(VALUES) if name not in BAD_NUMBERS]
    of_loss = [len(VALUES) + i for i, name in enumerate(VALUES) if name in unreadable]
    assert left_out.numbers == [5 + i for i in (*of_step, *of_loss)]
    assert dict(metrics["loss"])[10**9] == 0
    assert len(metrics["rollout/success"]) == 4


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_verbs_on_hostile_rows(data: st.DataObject, tmp_path_factory, capsys) -> None:
    place = tmp_path_factory.mktemp("hostile")
    folder, other = sound_run(place / "run"), sound_run(place / "other")
    draw = st.tuples(st.sampled_from(EPISODE_FIELDS), st.sampled_from(sorted(VALUES)))
    drawn = data.draw(st.lists(draw, max_size=6))
    row = {**episode(1), "data_set": None, "metrics": None, "data_flags": None}
    add_lines(folder, EPISODES, [with_value(row, field, VALUES[name]) for field, name in drawn])
    steps = data.draw(st.lists(st.sampled_from(sorted(VALUES)), max_size=3))
    add_lines(folder, METRICS, [with_value({"step": 9, "loss": 0}, "loss", VALUES[name]) for name in steps])
    use_all(capsys, folder, other, place)
    status, _, err = run(capsys, "report", folder)
    refused = sum(name not in FITTING[field] for field, name in drawn)
    assert status == 0
    found = re.search(r"(\d+) lines? of episodes\.jsonl", err)
    assert int(found[1] if found else 0) == refused


def test_a_row_that_claims_many_steps_needs_no_memory(tmp_path: Path, capsys) -> None:
    folder = sound_run(tmp_path / "run")
    add_lines(folder, EPISODES, [json.dumps(episode(9, steps=10**15, seconds=1e15, cost=1e15, score=-1e15))])
    status, _, _ = run(capsys, "report", folder)
    assert status == 0
    assert (folder / "report.html").stat().st_size < 300_000


# -- configuration --------------------------------------------------------------------------


def check_config(field: str, value: str, place: Path, capsys) -> None:
    folder, other = sound_run(place / "run"), sound_run(place / "other")
    (folder / CONFIG).write_text(with_value(config(), field, value), encoding="utf-8")
    use_all(capsys, folder, other, place)
    # The viewer needs no configuration.
    assert "4 episodes" in next(pages_of(folder))


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(field=st.sampled_from(CONFIG_FIELDS), name=st.sampled_from(sorted(VALUES)))
def test_hostile_configurations(field: str, name: str, tmp_path_factory, capsys) -> None:
    check_config(field, VALUES[name], tmp_path_factory.mktemp("config"), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("field", CONFIG_FIELDS)
def test_every_field_of_a_configuration(tmp_path: Path, field: str, capsys) -> None:
    for number, value in enumerate(VALUES.values()):
        check_config(field, value, tmp_path / str(number), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("field", EPISODE_FIELDS)
def test_verbs_on_every_value_of_a_field(tmp_path: Path, field: str, capsys) -> None:
    row = {**episode(1), "data_set": None, "metrics": None, "data_flags": None}
    for number, value in enumerate(VALUES.values()):
        place = tmp_path / str(number)
        folder, other = sound_run(place / "run"), sound_run(place / "other")
        add_lines(folder, EPISODES, [with_value(row, field, value)])
        use_all(capsys, folder, other, place)


# -- files ----------------------------------------------------------------------------------


def check_fault(file: str, fault: str, place: Path, capsys) -> None:
    folder, other = sound_run(place / "run"), sound_run(place / "other")
    FAULTS[fault](folder / file)
    use_all(capsys, folder, other, place)
    first = next(pages_of(folder))
    assert ("0 episodes" if file is None else "4 episodes") in first or file in (EPISODES, TRAJECTORIES)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_be_in_the_place_of_the_episodes(tmp_path: Path, fault: str, capsys) -> None:
    check_fault(EPISODES, fault, tmp_path, capsys)


@settings(max_examples=6, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(file=st.sampled_from(FILES), fault=st.sampled_from(sorted(FAULTS)))
def test_what_may_be_in_the_place_of_a_file(file: str, fault: str, tmp_path_factory, capsys) -> None:
    check_fault(file, fault, tmp_path_factory.mktemp("fault"), capsys)


@pytest.mark.slow
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("file", FILES)
def test_every_fault_of_every_file(tmp_path: Path, file: str, fault: str, capsys) -> None:
    check_fault(file, fault, tmp_path, capsys)


@pytest.mark.parametrize("file", ["run.json", "config.yaml"])
@pytest.mark.parametrize("fault", FAULTS)
def test_facts_of_a_training_run(tmp_path: Path, file: str, fault: str, capsys) -> None:
    folder = sound_run(tmp_path / "run")
    for name in (CONFIG, EPISODES):
        (folder / name).unlink()
    (folder / "run.json").write_text("{}")
    (folder / "config.yaml").write_text("steps: 1\n")
    FAULTS[fault](folder / file)
    run(capsys, "report", folder)


def test_a_line_that_is_too_long_is_left_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from sdar_envs.files import lines

    folder = sound_run(tmp_path / "run")
    long: dict[str, Any] = {"error": {"type": "E", "message": "x" * 5000}}
    add_lines(folder, EPISODES, [json.dumps(episode(8, **long)), json.dumps(episode(9))])
    monkeypatch.setattr(lines, "LONGEST_LINE", 2000)
    left_out = LeftOut(EPISODES)
    assert [e.task_id[-1] for e in read_episodes(folder, left_out)] == ["0", "1", "2", "3", "9"]
    assert left_out.numbers == [5]
    assert "longer than 2,000 bytes" in left_out.sentence()
    assert len(RunIndex(folder).refresh()) == 5
