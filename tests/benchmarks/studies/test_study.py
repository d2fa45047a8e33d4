"""The study: a queue of cells that is resumed, gates, the habit probe, exact statistics, a report."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from hypothesis import given
from hypothesis import strategies as st

from sdar_agents.engines.transformers import TransformersPolicy, load_model
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.studies.design import Cell, Design, GateSettings, MeasureSettings, load_design
from sdar_benchmarks.studies.digest import _content, code_digest, code_files
from sdar_benchmarks.studies.measures import HabitProbe
from sdar_benchmarks.studies.outcomes import (
    compare_arms,
    compare_with_control,
    metric_values,
    outcome_table,
    plan,
    power,
    start_table,
)
from sdar_benchmarks.studies.queue import StudyPaths, _items, _Study, _take, run_study
from sdar_benchmarks.studies.recheck import recheck, repeat
from sdar_benchmarks.studies.records import CellRecord, StudyFolder, normalised_area
from sdar_benchmarks.studies.study_report import write_study_report
from sdar_envs.errors import InvalidOption, MissingData, RunStopped
from sdar_envs.files.locks import writing_path

DESIGN = {
    "start": {
        "model": "tiny-test",
        "env_kwargs": {"rooms": "small", "max_steps": 30},
        "episodes": 12,
        "readings": 12,
        "retriever": "home",
        "guesses": True,
    },
    "gates": {"sampled": [0.0, 1.0], "teacher": 0.0, "lead": -1.0},
    "training": {
        "rollout": {
            "env_id": "sdar/ALFWorld-v0",
            "env_kwargs": {"rooms": "small", "max_steps": 2, "task_types": ["pick_and_place_simple"]},
            "terse": True,
            "max_new_tokens": 6,
        },
        "split": "home",
        "steps": 2,
        "tasks_per_step": 2,
        "group_size": 2,
        "skills": {"retriever": "home", "k": 1},
        "learner": {"lr": 2.0e-4, "max_tokens": 4096},
        "evaluation": {"split": "home_valid", "tasks": 2, "temperature": 0.4},
        "checkpoints": {"every": 1, "keep": 1},
        "log": {"tracker": "none", "progress": False, "trajectories_every": 0},
    },
    "measures": {"probe": 1, "probe_every": 1, "last": 2, "every": 1},
    "baseline": "grpo",
    "arms": {
        "grpo": {"method": "grpo"},
        "sdar": {"method": "sdar", "settings": {"methods": {"sdar": {"distill_coef": 1.0}}}},
        "sdar+wrong-skills": {"method": "sdar", "control": "wrong-skills"},
    },
    "seeds": 1,
    "pilot": {"area": {"effect": 0.05, "sd": 0.02, "pairs": 4}},
}


def write_design(folder: Path, **changed: Any) -> str:
    path = folder / "small.yaml"
    path.write_text(yaml.safe_dump(DESIGN | changed))
    return str(path)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Design, StudyPaths]:
    """A study of one seed, run to its end."""
    folder = tmp_path_factory.mktemp("study")
    design = load_design(write_design(folder)).chosen(["sdar+wrong-skills"])
    paths = StudyPaths(folder / "out", folder / "work")
    seeds: list[int] = []
    run_study(design, paths, seed_done=seeds.append)
    assert seeds == [0]
    return design, paths


def without_times(record: CellRecord) -> CellRecord:
    return replace(record, facts={}, costs={**record.costs, "cpu_seconds": 0.0})


def test_finished_cells_are_records_from_which_a_fresh_clone_goes_on(
    finished: tuple[Design, StudyPaths], tmp_path: Path
) -> None:
    design, paths = finished
    shutil.copytree(paths.records, tmp_path / "out")
    folder = StudyFolder(tmp_path / "out", design)
    before = folder.cells()
    assert [record.arm for record in before] == ["grpo", "sdar+wrong-skills"]
    assert [step for step, _ in before[0].points("success")] == [1, 2]
    assert [step for step, _ in before[0].points("probe")] == [0, 1, 2]
    assert [step for step, _ in before[0].points("greedy")] == [1, 2]
    assert [step for step, _ in before[0].points("with_skills")] == [2]
    # Of one start: before the first step all arms are the same model.
    assert before[0].points("probe")[0] == before[1].points("probe")[0]
    assert before[0].costs["cpu_seconds"] > 0
    assert before[1].costs["teacher_tokens"] > before[0].costs["teacher_tokens"] == 0
    again = StudyPaths(tmp_path / "out", tmp_path / "work")
    run_study(design, again)
    assert not list((tmp_path / "work").glob("seed-*"))
    folder.cell_path(design.cells()[0]).unlink()
    run_study(design, again)
    # One seed again, from nothing but the records: the same numbers on the same processor.
    assert list(map(without_times, folder.cells())) == list(map(without_times, before))
    html, markdown = (path.read_text() for path in write_study_report(folder))
    for text in (html, markdown):
        assert "sdar+wrong-skills" in text
        assert "whatever the differences" in text.replace("\n", " ")
    assert "<polyline" in html


def test_a_seed_is_repeated_from_its_records_to_the_last_digit(
    finished: tuple[Design, StudyPaths], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    design, paths = finished
    shutil.copytree(paths.records, tmp_path / "out")
    folder, again = StudyFolder(tmp_path / "out", design), StudyPaths(tmp_path / "out", tmp_path / "work")
    before = folder.cells()
    cell = design.cells()[0]
    command = ["study", "--design", write_design(tmp_path), "--arms", "grpo", "--repeat", "0"]
    assert main([*command, "--out", str(again.records), "--work", str(again.work)]) == 0
    assert f"{cell.name}: 12 values are equal to the last digit." in capsys.readouterr().out
    assert folder.cells() == before
    assert not list(again.work.rglob("seed-*"))
    path = folder.cell_path(cell)
    row = json.loads(path.read_text())
    row["curves"]["greedy"][1][1] += 1e-9
    path.write_text(json.dumps(row))
    with pytest.raises(RunStopped, match="seed-00-grpo is no longer what its record says: greedy at step 2 is"):
        list(repeat(design.chosen([]), again, 0))
    row["facts"]["platform"]["vectors"] = "AVX9000"
    path.write_text(json.dumps(row))
    with pytest.raises(InvalidOption, match=r"computed on .* \(AVX9000\) with numpy .* here it is"):
        list(repeat(design, again, 0))
    with pytest.raises(MissingData, match="has no record of seed 7"):
        list(repeat(design, again, 7))


def test_records_that_do_not_compare_are_refused(finished: tuple[Design, StudyPaths], tmp_path: Path) -> None:
    design, paths = finished
    shutil.copytree(paths.records, tmp_path / "out")
    folder = StudyFolder(tmp_path / "out", design)
    other = replace(design, overrides=("--learner.lr", "1e-3"))
    with pytest.raises(InvalidOption, match=r"trained with other settings \(learner.lr\)"):
        StudyFolder(tmp_path / "out", other).cells()
    with pytest.raises(InvalidOption, match=r"made with other settings \(demonstrations.episodes.episodes"):
        StudyFolder(tmp_path / "out", replace(design, start=replace(design.start, episodes=13))).read_start(0)
    path = folder.cell_path(design.cells()[0])
    row = json.loads(path.read_text())
    # A setting that did not exist then has its default.
    del row["config"]["learner"]["packing"]
    path.write_text(json.dumps(row))
    assert folder.cells()
    path.write_text(json.dumps(row | {"code": "0" * 16}))
    with pytest.raises(InvalidOption, match="is of other code"):
        folder.cells()
    path.write_text(json.dumps(row | {"fingerprint": "0" * 64}))
    with pytest.raises(InvalidOption, match="began from another model"):
        run_study(design, StudyPaths(tmp_path / "out", tmp_path / "work"))


def test_records_of_other_code_are_renewed_if_their_first_steps_are_repeated(
    finished: tuple[Design, StudyPaths], tmp_path: Path
) -> None:
    design, paths = finished
    shutil.copytree(paths.records, tmp_path / "out")
    folder, again = StudyFolder(tmp_path / "out", design), StudyPaths(tmp_path / "out", tmp_path / "work")
    before = folder.cells()
    assert recheck(design, again) == []
    path = folder.cell_path(design.cells()[1])
    row = json.loads(path.read_text())
    path.write_text(json.dumps(row | {"code": "0" * 16}))
    # Of two steps: success at the first, both probes at all three, greedy success after both, two more at the end.
    assert [(each.cell.arm, each.compared, each.is_exact, each.renewed) for each in recheck(design, again)] == [
        ("sdar+wrong-skills", 11, True, 1)
    ]
    assert list(map(without_times, folder.cells())) == list(map(without_times, before))
    assert folder.cells()[1].facts["earlier_codes"] == ["0" * 16]
    row["facts"]["platform"]["cpu"] = "another"
    row["curves"]["probe"][1][1] += 5e-5
    path.write_text(json.dumps(row | {"code": "0" * 16}))
    assert not recheck(design, again)[0].is_exact
    row["curves"]["probe"][1][1] += 1e-3
    path.write_text(json.dumps(row | {"code": "0" * 16}))
    with pytest.raises(RunStopped, match=r"seed-00-sdar\+wrong-skills is no longer .* probe at step 1 is"):
        recheck(design, again)
    assert json.loads(path.read_text())["code"] == "0" * 16


def test_a_start_that_cannot_show_anything_stops_the_study(finished: tuple[Design, StudyPaths], tmp_path: Path) -> None:
    design, paths = finished
    shutil.copytree(paths.records / "starts", tmp_path / "out" / "starts")
    design = replace(design, gates=GateSettings(sampled=(0.9, 1.0), teacher=0.0, lead=-1.0))
    with pytest.raises(RunStopped, match=r"gate sampled: success of sampled play is 0\.\d+, wanted 0\.9 to 1"):
        run_study(design, StudyPaths(tmp_path / "out", tmp_path / "work"))
    assert not list((tmp_path / "work").glob("seed-*"))


def test_a_cell_that_another_process_works_on_is_left_to_it(
    finished: tuple[Design, StudyPaths], tmp_path: Path
) -> None:
    design, paths = finished
    shutil.copytree(paths.records / "starts", tmp_path / "out" / "starts")
    cell = design.cells()[0]
    study = _Study(design, StudyPaths(tmp_path / "out", tmp_path / "work"), lambda *_: None)
    with writing_path(tmp_path / "work" / "claims" / cell.name):
        assert not _take(study, cell)


def test_the_probe_is_the_probability_of_the_right_word(finished: tuple[Design, StudyPaths]) -> None:
    design, paths = finished
    folder = StudyFolder(paths.records, design)
    model, tokenizer = load_model(str(folder.model(0)), device="cpu", dtype="float32")
    config = design.config("grpo", 0, str(folder.model(0)))
    probe = HabitProbe(config, TransformersPolicy(model, tokenizer), prompts=1)
    assert probe.things >= 20
    for way, rows in probe._rows.items():
        chances = []
        for row, _ in rows:
            ids = torch.tensor([[*row.prompt_ids, *row.response_ids]])
            with torch.no_grad():
                logprobs = model(input_ids=ids).logits[0].double().log_softmax(-1)
            start = len(row.prompt_ids)
            chances.append(sum(logprobs[start + i - 1, token] for i, token in enumerate(row.response_ids)).exp())
        assert probe.measure(model, [way])[f"probe/{way}"] == pytest.approx(float(sum(chances) / len(chances)), 1e-4)
    text = tokenizer.decode(probe._rows["plain"][0][0].prompt_ids)
    assert "Search: " in text.rpartition("<think>")[2]


def test_gates_name_what_failed() -> None:
    gates = GateSettings(sampled=(0.2, 0.6), teacher=0.8, lead=0.15, probe_teacher=0.9, probe_student=0.4)
    good = {
        "start/sampled": 0.4,
        "start/greedy": 0.6,
        "start/with_skills": 0.9,
        "probe/plain": 0.3,
        "probe/with_skills": 0.95,
    }
    assert gates.failures(good) == []
    for name, value, gate in (
        ("start/sampled", 0.61, "sampled"),
        ("start/sampled", 0.19, "sampled"),
        ("start/greedy", 0.76, "lead"),
        ("probe/plain", 0.41, "probe_student"),
        ("probe/with_skills", 0.89, "probe_teacher"),
    ):
        (failure,) = gates.failures(good | {name: value})
        assert failure.startswith(f"gate {gate}:")
    assert [told.partition(":")[0] for told in gates.failures(good | {"start/with_skills": 0.7})] == [
        "gate teacher",
        "gate lead",
    ]
    with pytest.raises(InvalidOption, match="the lower first"):
        GateSettings(sampled=(0.6, 0.2))


@given(st.lists(st.floats(0, 1), min_size=2, max_size=20))
def test_the_area_of_even_steps_is_a_mean_whose_ends_count_half(values: list[float]) -> None:
    points = [(float(2 * i), value) for i, value in enumerate(values)]
    weights = [0.5, *[1.0] * (len(values) - 2), 0.5]
    mean = sum(w * v for w, v in zip(weights, values, strict=True)) / sum(weights)
    assert normalised_area(points) == pytest.approx(mean)


def test_the_area_of_a_point_and_of_nothing() -> None:
    assert normalised_area([(3.0, 0.25)]) == 0.25
    assert normalised_area([]) is None


def record(arm: str, seed: int, success: float, probe: float = 0.5) -> CellRecord:
    curves = {"success": [[1, success], [2, success]], "probe": [[0, 0.0], [1, probe], [2, probe]]}
    return CellRecord(arm, seed, seed % 2, "", "", {"steps": 2}, curves, {"cpu_seconds": 1.0})


def test_arms_are_compared_in_pairs_with_holms_correction(tmp_path: Path) -> None:
    design = load_design(write_design(tmp_path, seeds=6))
    design = replace(design, arms={**design.arms, "skill_grpo": replace(design.arms["grpo"], method="skill_grpo")})
    design = replace(design, arms={**design.arms, "rlsd": replace(design.arms["grpo"], method="rlsd")})
    gains = {"sdar": 0.1, "rlsd": 0.0, "sdar+wrong-skills": 0.0, "skill_grpo": 0.3}
    records = [record("grpo", seed, 0.2 + 0.01 * seed) for seed in range(6)]
    records += [
        record(arm, seed, 0.2 + 0.01 * seed + gain + (0.001 if arm == "sdar" else 0.01 * (-1) ** seed))
        for arm, gain in gains.items()
        for seed in range(6)
    ]
    found = {one.arm: one for one in compare_arms(design, records, "area")}
    # What a student that reads skills wins in training is no success of the task of the others.
    assert list(found) == ["sdar", "sdar+wrong-skills", "rlsd"]
    assert found["sdar"].by_seed == pytest.approx([0.101] * 6)
    # All of 2**6 signs but two are less extreme.
    assert (found["sdar"].p, found["sdar"].adjusted) == (pytest.approx(2 / 64), pytest.approx(4 / 64))
    assert found["rlsd"].p == found["rlsd"].adjusted == 1.0
    assert found["sdar+wrong-skills"].adjusted is None
    assert metric_values(design, records, "probe")["skill_grpo"] == dict.fromkeys(range(6), 0.5)
    # The first point of the probe, before training, is not among the last two.
    table = outcome_table(design, records[:7], "area")
    assert table.rows[0][:2] == ("grpo", "6")
    assert table.rows[1][3:5] == ("+10.1", "+10.1")
    # Without its last seed, the method is compared with its control on the others.
    fewer = [one for one in records if (one.arm, one.seed) != ("sdar", 5)]
    against = compare_with_control(design, fewer, "area", "sdar", "sdar+wrong-skills")
    assert against is not None
    assert against.by_seed == pytest.approx([0.091, 0.111, 0.091, 0.111, 0.091])
    assert (against.p, against.adjusted) == (pytest.approx(2 / 32), None)
    apart = [record("sdar", 0, 0.3), record("sdar+wrong-skills", 1, 0.3)]
    assert compare_with_control(design, apart, "area", "sdar", "sdar+wrong-skills") is None


def test_differences_are_shown_by_start() -> None:
    design = load_design("alfworld").chosen(["grpo", "sdar", "opsd"])
    gains = {"grpo": (0.0, 0.0), "sdar": (0.1, -0.3)}
    records = [record(arm, seed, 0.5 + by_start[seed % 2]) for arm, by_start in gains.items() for seed in range(4)]
    # Of seeds that the baseline has not, and of arms without records, there are no differences.
    records = [*records, record("sdar", 4, 1.0)]
    table = start_table(design, records)
    assert [row[:3] for row in table.rows] == [("sdar", "+10.0 / -30.0", "+0.0 / +0.0")]


def test_power_is_that_of_an_exact_test() -> None:
    # 2**-5 * 2 is above 0.05: no difference can be shown, however large.
    assert power(5, 100.0, 1) == (0.0, 0.0)
    assert power(6, 100.0, 1) == (1.0, 1.0)
    # Holm's correction for two wants 0.025 of the first.
    assert power(6, 100.0, 2)[1] < 0.1
    assert power(7, 100.0, 2) == (1.0, 1.0)
    alone, corrected = power(8, 0.0, 3)
    assert corrected <= alone <= 0.07
    # Table of the design: sd 4, difference 5, ten seeds, six comparisons.
    assert power(10, 5 / 4, 6) == (pytest.approx(0.94, abs=0.03), pytest.approx(0.64, abs=0.05))


def test_a_plan_says_power_spread_and_cost() -> None:
    planned = plan(load_design("alfworld"))
    assert planned.table.columns[-2:] == ("10 seeds", "12 seeds")
    notes = " ".join(planned.notes)
    assert "a pilot of 4 pairs had a standard deviation of 2.1 points (95 % interval 1.2 to 7.8)" in notes
    assert "130 cells" in notes


def test_cells_are_in_the_order_of_the_seeds_with_starts_nested() -> None:
    design = load_design("alfworld")
    cells = design.cells()
    assert [cell.seed for cell in cells] == sorted(cell.seed for cell in cells)
    assert {(cell.seed, cell.start) for cell in cells} == {(seed, seed % 2) for seed in range(10)}
    items = list(_items(design))
    assert items[:3] == [0, 1, Cell("grpo", 0, 0)]
    measured = MeasureSettings(last=3, every=2)
    assert [step for step in range(41) if measured.is_evaluated(step, 40)] == [36, 38, 40]


@pytest.mark.parametrize("name", ["alfworld", "webshop", "search_qa"])
def test_designs_of_the_package_have_arms_that_can_be_trained(name: str) -> None:
    design = load_design(name)
    for arm in design.arms:
        config = design.config(arm, 3, "start")
        assert (config.seed, config.model.path, config.evaluation.every) == (3, "start", 0)
        assert (config.control is None) == (arm == design.baseline or arm in design.compared)


def test_the_digest_is_of_code_and_not_of_words(tmp_path: Path) -> None:
    texts = {
        "a.py": '"""Module."""\n\nx = 1  # one\n\n\ndef f():\n    """Say."""\n    return "# no comment"\n',
        "b.py": '"""Another\nword."""\nx = 1\ndef f():\n    # why\n    return "# no comment"\n',
        "c.py": 'x = 2\ndef f():\n    return "# no comment"\n',
    }
    found = []
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
        found.append(_content(tmp_path / name))
    assert found[0] == found[1] != found[2]
    design = load_design("alfworld")
    files = {arm: {path.name for path in code_files(design.config(arm, 0, "."))} for arm in ("grpo", "sdar")}
    assert files["sdar"] - files["grpo"] == {"distiller.py", "sdar.py"}
    assert {"trainer.py", "learner.py", "generator.py", "homes.py", "measures.py"} <= files["grpo"]
    assert not files["grpo"] & {"report.py", "config.py", "vllm.py", "rlsd.py"}
    assert code_digest(design.config("sdar", 0, ".")) == code_digest(design.config("sdar+wrong-skills", 7, "x"))


@pytest.mark.parametrize(
    ("changed", "arguments", "message"),
    [
        ({}, ("--arms", "sdr"), "Did you mean 'sdar'?"),
        ({}, ("--lerner.lr", "1"), "Did you mean 'learner'"),
        ({}, ("--method", "grpo"), "--method is given, and the design decides it"),
        ({}, ("--seeds", "0"), "seeds is 0"),
        ({}, ("--jobs", "0"), "jobs is 0"),
        ({"baseline": "gpo"}, (), "Did you mean 'grpo'?"),
        ({"baseline": "sdar+wrong-skills"}, (), "which is a control"),
        ({"arms": {"grpo": {"method": "gpro"}}}, (), "Did you mean 'grpo'?"),
        ({"start": {"model": "tiny"}}, (), "model is 'tiny'"),
        ({"gate": {}}, (), "Did you mean 'gates'"),
        ({"measures": {}, "gates": {"probe_student": 0.4}}, (), "measures.probe is 0, and a gate is about the probe"),
    ],
)
def test_bad_input(
    changed: dict[str, Any],
    arguments: tuple[str, ...],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    design = write_design(tmp_path, **changed)
    assert main(["study", "--design", design, "--out", str(tmp_path / "out"), *arguments, "--plan"]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_design_that_there_is_not(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "--design", "alfwrld", "--plan"]) == 2
    assert "Did you mean 'alfworld'?" in capsys.readouterr().err


def _is_there(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    return True


@pytest.mark.slow
def test_a_queue_that_is_killed_and_resumed_equals_one_that_was_not(tmp_path: Path) -> None:
    design = write_design(tmp_path, seeds=2)
    records = {}
    for name in ("whole", "killed"):
        command = [sys.executable, "-m", "sdar_benchmarks.cli", "study", "--design", design, "--steps", "4"]
        command += ["--out", str(tmp_path / name), "--work", str(tmp_path / f"{name}-work"), "--jobs", "2"]
        if name == "killed":
            for place in ("*-work/start-0-*", "*-work/seed-00-grpo/checkpoints/step-*", "killed/cells/*sdar*"):
                process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
                for _ in range(600):
                    if list(tmp_path.glob(place.replace("*-work", "killed-work"))) or process.poll() is not None:
                        break
                    time.sleep(0.1)
                process.kill()
                process.wait()
                # Its helper ends with it, when it has imported everything.
                for _ in range(600):
                    if not _is_there(process.pid):
                        break
                    time.sleep(0.1)
                assert not _is_there(process.pid)
        subprocess.run(command, check=True, capture_output=True)
        loaded = replace(load_design(design), overrides=("--steps", "4"))
        records[name] = [without_times(one) for one in StudyFolder(tmp_path / name, loaded).cells()]
    assert len(records["whole"]) == 6
    assert records["whole"] == records["killed"]
