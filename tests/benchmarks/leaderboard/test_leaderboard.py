"""Records and the tables that are made of them."""

from __future__ import annotations

import copy
import json
import random
import re
from pathlib import Path

import pytest
from helpers.hostile_folders import FAULTS, VALUES, with_value
from helpers.run_folders import ALFWORLD, WEBSHOP, config, episode, write_run

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.leaderboard.adding import add_run
from sdar_benchmarks.leaderboard.records import check_record, load_records
from sdar_benchmarks.leaderboard.tables import BEGIN, END, render
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.registry import env_arguments

ROOT = Path(__file__).parents[3]


@pytest.fixture
def root(tmp_path):
    (tmp_path / "README.md").write_text(f"# A\n\n{BEGIN}\nold\n{END}\n\nmore\n")
    return tmp_path


def finished(folder, *, wins: int = 1, agent: str = "explorer", model: str | None = None, **changes):
    """A run of two tasks and one seed."""
    settings = {} if model is None else {"model": model, "temperature": 0.4}
    rows = [episode(i, is_success=i < wins, score=float(i < wins)) for i in range(2)]
    made = config(agent={"name": agent, "settings": settings}, **changes)
    return write_run(folder, rows, settings=made)


def test_a_record_holds_what_was_measured_and_how(root) -> None:
    [path] = add_run(finished(root / "run"), root)
    assert path.parent == root / "results"
    assert re.fullmatch(r"alfworld-v0-valid-unseen-explorer-[0-9a-f]{8}\.json", path.name)
    [record] = load_records(root)
    # One of two: Wilson's interval is (1 + 1.92073 ± 1.95996 √(0.25 * 2 + 0.96036)) / (2 + 3.84146).
    assert record["metrics"]["success"] == {"value": 0.5, "low": 0.094531, "high": 0.905469}
    assert record["panel"] == {"tasks": 2, "limit": None, "variant": "auto", "fingerprint": "0123456789abcdef" * 2}
    assert record["episodes"] == 2
    assert record["revision"] == config()["revision"]
    assert record["command"] == config()["command"]
    assert record["date"] == "2026-11-24"
    assert record["metrics"]["tokens"] is None


def test_every_suite_of_a_run_has_a_record(root) -> None:
    suites = [config()["panels"][0], {**config()["panels"][0], "env_id": WEBSHOP, "split": "test"}]
    suites[1]["env_kwargs"] = {"split": "test", "data": "official", "data_dir": "/home/somebody", "max_steps": 15}
    rows = [episode(i, prompt_tokens=90, completion_tokens=10) for i in range(2)]
    rows += [episode(i, env_id=WEBSHOP, split="test", is_success=False) for i in range(2)]
    add_run(write_run(root / "run", rows, settings=config(panels=suites)), root)
    first, second = load_records(root)
    assert (first["env_id"], second["env_id"]) == (ALFWORLD, WEBSHOP)
    assert first["metrics"]["tokens"] == 100
    assert second["metrics"]["success"]["value"] == 0
    assert "data_dir" not in second["env_kwargs"]
    render(root)
    assert "data='official'" in (root / "LEADERBOARD.md").read_text()


def test_a_new_argument_of_an_environment_does_not_rename_its_records(root, monkeypatch) -> None:
    def add(**env_kwargs: object) -> list[str]:
        panel = config()["panels"][0]
        panel = {**panel, "env_kwargs": {**env_arguments(ALFWORLD), "split": panel["split"], **env_kwargs}}
        folder = write_run(root / "run", [episode(i) for i in range(2)], settings=config(panels=[panel]))
        return [path.name for path in add_run(folder, root, replace=True)]

    before = add()
    assert add(max_steps=7) != before
    monkeypatch.setattr(
        "sdar_benchmarks.leaderboard.adding.env_arguments",
        lambda env_id: {**env_arguments(env_id), "weather": "dry"},
    )
    assert add(weather="dry") == before
    assert add(weather="wet") != before


def test_types_data_sets_and_seeds_are_in_the_record_and_the_tables(root) -> None:
    suite = {**config()["panels"][0], "env_id": "sdar/SearchQA-v0", "split": "test", "tasks": 4}
    where = {"retriever": "http://10.0.0.7:8000", "data_dir": "/home/somebody"}
    suite["env_kwargs"] = {"split": "test", "data": "official", **where}
    suite["variant"] = "fixed, topk 3, max_steps 4, bm25:0123"
    names = {"env_id": "sdar/SearchQA-v0", "split": "test"}
    rows = [
        episode(i, seed=seed, is_success=i < 2, score=float(i < 2), task_type=kind, data_set=data_set, **names)
        for seed in (0, 1)
        for i, (kind, data_set) in enumerate(
            [("direct_retrieval", "nq"), ("multi_hop_reasoning", "bamboogle")] + [("direct_retrieval", "nq")] * 2
        )
    ]
    add_run(write_run(root / "run", rows, settings=config(panels=[suite], seeds=[0, 1])), root)
    [record] = load_records(root)
    metrics = record["metrics"]
    assert metrics["data_sets"]["nq"] == {"episodes": 6, "success": 0.333333, "score": 0.333333}
    assert metrics["data_sets"]["bamboogle"] == {"episodes": 2, "success": 1.0, "score": 1.0}
    assert metrics["pass_at_k"] == {"1": 0.5, "2": 0.5}
    # Where the engine ran is nobody's business; which it was is part of the panel.
    assert record["env_kwargs"] == {"data": "official"}
    render(root)
    text = (root / "LEADERBOARD.md").read_text()
    assert "fixed, topk 3, max_steps 4, bm25:0123" in text
    head, rule, row = text[text.index("| won by data set |") :].splitlines()[:3]
    assert (head, rule) == ("| won by data set | bamboogle | nq | mean |", "| --- | ---: | ---: | ---: |")
    assert row == "| explorer | 100.0% | 33.3% | 66.7% |"
    assert "| won by task type | direct_retrieval | multi_hop_reasoning | mean |" in text


def test_where_a_model_is_asked_makes_no_other_row(root) -> None:
    paths = []
    for url in ("http://one/v1", "http://two/v1"):
        settings = {"model": "m", "temperature": 0.4, "base_url": url, "retries": 3}
        made = config(agent={"name": "openai", "settings": settings})
        folder = write_run(root / "run", [episode(i) for i in range(2)], settings=made)
        paths += add_run(folder, root, replace=True)
    assert paths[0] == paths[1]
    assert load_records(root)[0]["settings"] == {"model": "m", "temperature": 0.4}


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("acme/model", "acme/model"),
        ("/home/somebody/work/models/mine", "models/mine"),
        ("/data/models/mine", "mine"),
    ],
)
def test_a_models_folder_is_named_without_the_machine(root, model: str, name: str) -> None:
    add_run(finished(root / "run", agent="transformers", model=model, directory="/home/somebody/work"), root)
    [record] = load_records(root)
    assert (record["model"], record["settings"]["model"]) == (name, name)
    assert "somebody" not in json.dumps(record["settings"])


def test_rows_are_sorted_and_panels_apart(root) -> None:
    add_run(finished(root / "a", wins=1, agent="explorer"), root)
    add_run(finished(root / "b", wins=2, agent="openai", model="good|model_x"), root)
    limited = {**config()["panels"][0], "limit": 2, "fingerprint": "f" * 32}
    add_run(finished(root / "c", agent="explorer", panels=[limited]), root)
    assert render(root) == [root / "LEADERBOARD.md", root / "README.md"]
    text = (root / "LEADERBOARD.md").read_text()
    assert text.index("| openai | good\\|model_x | 100.0% |") < text.index("| explorer | – | 50.0% |")
    assert text.count(f"## {ALFWORLD}, valid\\_unseen") + text.count(f"## {ALFWORLD}, valid_unseen") == 2
    assert "only 2 tasks" in text
    assert "`sdar eval sdar/ALFWorld-v0 --agent explorer` at `0123456789ab`" in text
    for link in re.findall(r"\]\((results/[^)]+)\)", text):
        assert (root / link).exists()
    tables = [[line for line in part.splitlines() if line.startswith("|")] for part in text.split("\n\n")]
    # The first panel alone has a row with a model.
    bars = [{len(re.findall(r"(?<!\\)\|", line)) for line in table} for table in tables if table]
    assert sorted(bars, key=min) == [{9}, {10}]


def test_the_readme_keeps_all_but_the_table(root) -> None:
    add_run(finished(root / "a"), root)
    render(root)
    text = (root / "README.md").read_text()
    assert text.startswith(f"# A\n\n{BEGIN}\n| panel | agent |")
    assert text.endswith(f" |\n{END}\n\nmore\n")
    assert "| sdar/ALFWorld-v0, valid_unseen | explorer | 50.0% (9.5–90.5) | 0.500 | 2 × 1 |" in text
    assert render(root) == []


def test_the_readme_has_at_most_twelve_rows_those_of_whole_splits_first(root) -> None:
    for number in range(14):
        limited = {**config()["panels"][0], "limit": 2, "fingerprint": f"{number // 7:032x}"}
        add_run(finished(root / f"run{number}", agent="openai", model=f"m{number}", panels=[limited]), root)
    add_run(finished(root / "random", agent="random"), root)
    render(root)
    table = (root / "README.md").read_text().partition(BEGIN)[2].partition(END)[0]
    rows = [line for line in table.splitlines() if line.startswith("| sdar/")]
    assert len(rows) == 12
    assert sum("random (floor)" in row for row in rows) == 1
    models = [int(number) for number in re.findall(r"openai, m(\d+)", table)]
    assert sum(number < 7 for number in models) == 6  # eleven rows, of two panels in turn
    assert table.endswith("\n\n12 of 15 rows; all are in LEADERBOARD.md.\n")
    assert sum(row.startswith("| ") for row in (root / "LEADERBOARD.md").read_text().splitlines()) > 15


def test_check_says_what_is_stale_and_writes_nothing(root) -> None:
    with pytest.raises(InvalidOption, match=r"LEADERBOARD\.md and README\.md are not what results says"):
        render(root, check=True)
    assert "old" in (root / "README.md").read_text()
    render(root)
    assert render(root, check=True) == []
    add_run(finished(root / "a"), root)
    with pytest.raises(InvalidOption, match="run `sdar leaderboard render`"):
        render(root, check=True)
    render(root)
    (root / "LEADERBOARD.md").write_text((root / "LEADERBOARD.md").read_text().replace("50.0%", "99.9%"))
    with pytest.raises(InvalidOption, match=r"^LEADERBOARD\.md is not"):
        render(root, check=True)


def test_a_record_is_replaced_only_if_asked(root) -> None:
    [path] = add_run(finished(root / "a", wins=1), root)
    before = path.read_text()
    with pytest.raises(InvalidOption, match="--replace"):
        add_run(finished(root / "a", wins=2), root)
    assert path.read_text() == before
    assert add_run(finished(root / "a", wins=2), root, replace=True) == [path]
    before = path.read_bytes()
    assert add_run(finished(root / "a", wins=2), root) == [path]  # again after a kill: it is the same record
    assert path.read_bytes() == before
    assert load_records(root)[0]["metrics"]["success"]["value"] == 1


def test_runs_that_become_no_record(root) -> None:
    with pytest.raises(InvalidOption, match="not finished"):
        add_run(finished(root / "a", finished=None), root)
    for revision in ("unknown", "0123456789abcdef0123456789abcdef01234567-dirty"):
        with pytest.raises(InvalidOption, match="wanted a commit"):
            add_run(finished(root / "b", revision=revision), root)
    # Concurrency may change on the way; the commit may not.
    again = [{"at": "2026-11-24T11:00:00Z", "concurrency": 2}, {"at": "2026-11-24T12:00:00Z", "revision": "abc-dirty"}]
    with pytest.raises(InvalidOption, match=r"begun at 0123.* resumed at abc-dirty: a row is about one"):
        add_run(finished(root / "e", resumed=again), root)
    with pytest.raises(InvalidOption, match="wanted 6"):
        add_run(finished(root / "c", seeds=[0, 1, 2]), root)
    error = episode(
        1, status="error", is_success=False, stop_reason="endpoint_error", error={"type": "E", "message": ""}
    )
    with pytest.raises(InvalidOption, match=r"1 of 2 episodes .* ended in an error"):
        add_run(write_run(root / "d", [episode(0), error]), root)
    with pytest.raises(MissingData):
        add_run(root / "nothing", root)
    assert load_records(root) == []


def change(path: str, value: object):
    def apply(record: dict) -> None:
        *parents, name = path.split(".")
        for parent in parents:
            record = record[parent]
        if value is ...:
            del record[name]
        else:
            record[name] = value

    return apply


@pytest.mark.parametrize(
    ("path", "value", "says"),
    [
        ("format", 1, "format is 1; wanted 2"),
        ("format", True, "format is True"),
        ("env_id", "", "env_id is ''; wanted text"),
        ("agnet", "x", "a field 'agnet', which no record has. Did you mean 'agent'?"),
        ("agent", ..., "agent is missing"),
        ("metrics", [], r"metrics is \[\]; wanted an object"),
        ("metrics.success.value", 1.5, "metrics.success.value is 1.5; wanted a number from 0 to 1"),
        ("metrics.success.low", 0.75, "metrics.success is .*; wanted low <= value <= high"),
        ("metrics.steps", True, "metrics.steps is True"),
        ("metrics.steps", -1, "metrics.steps is -1"),
        ("metrics.tokens", "many", "metrics.tokens is 'many'; wanted a number from 0 to 1e15, or null"),
        ("metrics.pass", 1, "metrics has a field 'pass'"),
        ("metrics.pass_at_k", {"1": 2}, "metrics.pass_at_k is .*; wanted an object of numbers from 0 to 1"),
        ("metrics.data_sets", {"nq": 1}, "metrics.data_sets is .*; wanted an object of objects with episodes, success"),
        ("seeds", [0, 0], "seeds is"),
        ("seeds", [], "seeds is"),
        ("seeds", [0, 1], "episodes is 2; wanted tasks times seeds, 4"),
        ("panel.fingerprint", "unknown", "panel.fingerprint is 'unknown'; wanted at least 16 hexadecimal digits"),
        ("panel.tasks", 0, "panel.tasks is 0"),
        ("revision", "unknown", "revision is 'unknown'; wanted the 40 digits of a commit"),
        ("date", "24.11.2026", "date is '24.11.2026'; wanted a day"),
        ("date", "2026-02-30", "date is"),
    ],
)
def test_damaged_records_are_refused_by_field(root, path: str, value: object, says: str) -> None:
    [file] = add_run(finished(root / "run"), root)
    record = json.loads(file.read_text())
    check_record(copy.deepcopy(record), "x.json")
    change(path, value)(record)
    file.write_text(json.dumps(record))
    with pytest.raises(CorruptData, match=says) as refused:
        load_records(root)
    assert file.name in str(refused.value)


def test_a_record_of_format_1_is_refused_with_what_to_do(root) -> None:
    [file] = add_run(finished(root / "run"), root)
    record = json.loads(file.read_text())
    file.write_text(json.dumps({"format": 1, "suite": record.pop("env_id")} | {**record, "format": 1}))
    with pytest.raises(CorruptData, match=r"format is 1; wanted 2: delete the file and add the run again"):
        load_records(root)


@pytest.mark.parametrize("content", ["", "{", "[]", '{"format": 1, "format": 1}', '{"format": NaN}', "null"])
def test_what_is_no_record_at_all(root, content: str) -> None:
    (root / "results").mkdir()
    (root / "results" / "a.json").write_text(content)
    with pytest.raises(CorruptData, match=r"a\.json"):
        render(root)


def test_a_renamed_record_is_refused(root) -> None:
    [file] = add_run(finished(root / "run"), root)
    file.rename(file.with_name("other.json"))
    with pytest.raises(CorruptData, match=f"should be called {re.escape(file.name)}"):
        load_records(root)


@pytest.mark.parametrize("text", [f"{END}\n{BEGIN}", f"{BEGIN}{END}{BEGIN}{END}", BEGIN])
def test_a_readme_with_unpaired_markers_is_refused(root, text: str) -> None:
    (root / "README.md").write_text(text)
    with pytest.raises(InvalidOption, match="wants one"):
        render(root)
    assert not (root / "LEADERBOARD.md").exists()


def test_a_leaderboard_begins_in_any_folder(tmp_path) -> None:
    root = tmp_path / "lab"
    with pytest.raises(MissingData, match=r"no leaderboard in .*lab: `sdar leaderboard add RUN` .* --root"):
        render(root)
    [path] = add_run(finished(tmp_path / "run"), root)
    assert path.parent == root / "results"
    assert render(root) == [root / "LEADERBOARD.md"]
    assert f"[record](results/{path.name})" in (root / "LEADERBOARD.md").read_text()
    assert render(root, check=True) == []


def test_a_readme_without_markers_is_left_alone(tmp_path) -> None:
    (tmp_path / "README.md").write_text("# Our lab\n")
    add_run(finished(tmp_path / "run"), tmp_path)
    assert render(tmp_path) == [tmp_path / "LEADERBOARD.md"]
    assert (tmp_path / "README.md").read_text() == "# Our lab\n"


def test_records_are_in_benchmarks_results_where_that_exists(tmp_path) -> None:
    (tmp_path / "benchmarks" / "results").mkdir(parents=True)
    [path] = add_run(finished(tmp_path / "run"), tmp_path)
    assert path.parent == tmp_path / "benchmarks" / "results"
    render(tmp_path)
    assert f"(benchmarks/results/{path.name})" in (tmp_path / "LEADERBOARD.md").read_text()


def test_a_run_by_an_installed_package_is_recorded_with_its_version(root) -> None:
    add_run(finished(root / "run", revision=None), root)
    [record] = load_records(root)
    assert record["revision"] == f"sdar-envs=={config()['versions']['sdar-envs']}"
    render(root)
    assert f"at `{record['revision']}`" in (root / "LEADERBOARD.md").read_text()


def unrolled(line: str) -> list[str]:
    """Return the commands of a line: one, or those of two loops of the shell."""
    loops = re.fullmatch(r"for of in (.*); do for at in (.*); do (.*); done; done", line)
    if loops is None:
        return [line]
    return [loops[3].replace("$of", of).replace("$at", at) for of in loops[1].split() for at in loops[2].split()]


def test_the_commands_of_the_header_can_be_read_by_the_command_line(root) -> None:
    from sdar_benchmarks.cli.main import make_parser

    render(root)
    block = re.search(r"```bash\n(.*?)```", (root / "LEADERBOARD.md").read_text(), flags=re.DOTALL)[1]
    lines = [command for line in block.splitlines() for command in unrolled(line)]
    assert len(lines) >= 5
    assert sum("--split test_paths" in line for line in lines) >= 6
    for line in lines:
        assert make_parser().parse_args(line.split()[1:]).command in ("eval", "leaderboard")


def test_the_tables_of_this_repository_are_current() -> None:
    assert render(ROOT, check=True) == []


def test_a_run_on_data_of_two_kinds_is_no_record(root) -> None:
    rows = [episode(0, data_flags={"title_nouns": "guessed"}), episode(1)]
    with pytest.raises(InvalidOption, match="were played on other data than others, so that their scores do not"):
        add_run(write_run(root / "run", rows, settings=config()), root)


def test_a_run_of_chosen_tasks_is_no_record(root) -> None:
    panel = {**config()["panels"][0], "only": ["alfworld/valid_unseen/0000", "alfworld/valid_unseen/0001"]}
    with pytest.raises(InvalidOption, match="chosen by name; a row is about a whole split, or the sample"):
        add_run(write_run(root / "run", [episode(i) for i in range(2)], settings=config(panels=[panel])), root)


def paths_of(record: dict, before: str = "") -> list[str]:
    found = []
    for name, value in record.items():
        found.append(f"{before}{name}")
        if isinstance(value, dict):
            found += paths_of(value, f"{before}{name}.")
    return found


def check_records(root, capsys, chosen) -> None:
    [path] = add_run(finished(root / "run"), root)
    record = json.loads(path.read_text())
    for place, name in chosen([(place, name) for place in paths_of(record) for name in VALUES]):
        path.write_text(with_value(record, place, VALUES[name]))
        status = main(["leaderboard", "render", "--root", str(root)])
        err = capsys.readouterr().err
        assert status in (0, 2)
        assert err.count("\n") <= 1, err
        assert err.startswith("error: ") == (status == 2)


def test_hostile_values_in_records_are_refused_in_one_line(root, capsys) -> None:
    check_records(root, capsys, lambda cases: random.Random(0).sample(cases, 40))


@pytest.mark.slow
def test_every_hostile_value_in_records(root, capsys) -> None:
    check_records(root, capsys, lambda cases: cases)


@pytest.mark.parametrize("fault", FAULTS)
def test_what_may_be_in_the_place_of_a_record(root, fault: str, capsys) -> None:
    [path] = add_run(finished(root / "run"), root)
    FAULTS[fault](path)
    assert main(["leaderboard", "render", "--root", str(root)]) == (0 if fault == "missing" else 2)
    assert capsys.readouterr().err.count("\n") <= 1
