"""The measuring itself, on few steps and a tiny catalogue: what it measures, not how fast it is."""

import json
import sys
from importlib.util import find_spec

import gymnasium as gym
import pytest
from rich.console import Console

from sdar_benchmarks.cli.main import main
from sdar_benchmarks.throughput import bench, environment, generation, webshop
from sdar_benchmarks.throughput.figures import ONE_ENVIRONMENT, Figure, Figures, peak_megabytes
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.registry import ENV_IDS
from sdar_envs.webshop.catalog.loading import CatalogFiles, load_catalog

SMALL = {"_STEPS": 300, "_RESETS": 20, "_EPISODES": 2, "_VECTORS": (2, 4), "_TASKS": 3}


@pytest.mark.parametrize("env_id", ENV_IDS)
def test_every_environment_is_measured_in_the_same_way(env_id, monkeypatch):
    for name, value in SMALL.items():
        monkeypatch.setattr(environment, name, value)
    said = []
    figures = environment.measure(env_id, said.append)
    assert [figure.what.partition(" of the agent")[0] for figure in figures] == [
        ONE_ENVIRONMENT,
        "a step, bare",
        "a step as chat, windowed",
        "a step as chat, appended",
        "steps, make_vec(2)",
        "steps, make_vec(4)",
        "whole episodes",
        "steps in episodes",
        "reset by id to a task that was played before",
        "reset by seed",
        "memory per environment, on shared tasks",
        "memory per environment, each on a task of its own",
        "process with 4 environments",
    ]
    assert all(figure.value > 0 for figure in figures if "of its own" not in figure.what)
    assert figures.value(ONE_ENVIRONMENT) == figures[0].value
    assert "memory" in said


def test_commands_are_drawn_beforehand(monkeypatch):
    monkeypatch.setattr(environment, "_STEPS", 120)
    env = gym.make("sdar/ALFWorld-v0", split="valid_seen", max_steps=20)
    from sdar_agents import make_agent

    ids = ["alfworld/valid_seen/0000", "alfworld/valid_seen/0001"]
    episodes = list(environment._random_episodes(env, make_agent("random"), ids))
    assert [task_id for task_id, _ in episodes[:3]] == [ids[0], ids[1], ids[0]]
    assert 120 <= sum(len(commands) for _, commands in episodes) < 140
    for task_id, commands in episodes:
        env.reset(options={"task_id": task_id})
        ends = [any(env.step(command)[2:4]) for command in commands]
        assert ends == [False] * (len(commands) - 1) + [True]


def test_only_suites_of_this_package_have_parts_of_their_own():
    assert set(bench.SPECIFIC) <= {*ENV_IDS, "skills", "generation", "trainer"} == set(bench.PARTS)


def test_generation_is_measured_beside_that_of_transformers(monkeypatch):
    for name, value in {"_ROWS": 16, "_PROMPT": 8, "_NEW": 2, "_REPEATS": 1}.items():
        monkeypatch.setattr(generation, name, value)
    figures = Figures("generation")
    generation.measure(figures)
    kinds = ["prompts of 8", "prompts of 2 to 16", "prompts of 8, 8 times each"]
    assert [figure.what for figure in figures] == [
        f"{part}, {kind}" for kind in kinds for part in ("new tokens", "model.generate", "ratio")
    ]
    for kind in kinds:
        ours, theirs = (figures.value(f"{part}, {kind}") for part in ("new tokens", "model.generate"))
        assert figures.value(f"ratio, {kind}") == ours / theirs


def test_a_catalogue_of_several_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(webshop, "_GENERATED_AT_ONCE", 60)
    webshop.write_catalogue(tmp_path, 120)
    catalog = load_catalog(CatalogFiles.find(str(tmp_path)))
    assert len(catalog) == 120
    assert len(set(catalog.titles[:60]) & set(catalog.titles[60:])) < 10


def test_starts_steps_and_searches(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(webshop, "_SEARCHES", 5)
    webshop.write_catalogue(tmp_path, 60)
    first = webshop._measure_start(str(tmp_path), is_first=True)
    assert first.keys() == {"start", "megabytes"}
    later = webshop._measure_start(str(tmp_path), is_first=False)
    assert later.keys() == {*first, "search"}
    assert all(value >= 0 for value in later.values())
    assert 10 < peak_megabytes() < 10_000


@pytest.fixture
def measured(monkeypatch):
    """Let the command measure nothing that takes time."""

    def measure(env_id, progress):
        progress("nothing")
        figures = Figures(env_id)
        figures.add("steps", 12345.6, "steps/CPU s")
        return figures

    monkeypatch.setattr(environment, "measure", measure)
    monkeypatch.setattr(bench, "SPECIFIC", {"sdar/WebShop-v0": ("webshop",)})
    monkeypatch.setattr(webshop, "measure", lambda figures, progress: figures.add("search", 0.1234, "CPU ms"))


def test_the_whole_command(measured, tmp_path, capsys):
    path = tmp_path / "figures.json"
    assert main(["bench", "sdar/WebShop-v0", "--output", str(path)]) == 0
    table = capsys.readouterr().out
    assert "12,346" in table
    assert "0.123" in table
    record = json.loads(path.read_text())
    assert record["command"] == f"sdar bench sdar/WebShop-v0 --output {path}"
    assert record.keys() == {"format", "command", "date", "revision", "hardware", "versions", "figures"}
    assert record["figures"][0] == {"env": "sdar/WebShop-v0", "what": "steps", "value": 12345.6, "unit": "steps/CPU s"}

    # Twice as slow as before in steps, half the time for a search: the ratio is above 1 for what is better.
    record["figures"][0]["value"] *= 2
    record["figures"][1]["value"] *= 2
    path.write_text(json.dumps(record))
    assert main(["bench", "sdar/WebShop-v0", "--baseline", str(path)]) == 0
    lines = capsys.readouterr().out.splitlines()
    [steps] = [line.split() for line in lines if "12,346" in line]
    [search] = [line.split() for line in lines if "0.123" in line]
    assert "0.50" in steps
    assert "2.00" in search


def test_all_environments_are_measured_by_default(measured, capsys):
    assert main(["bench"]) == 0
    captured = capsys.readouterr()
    assert all(env_id in captured.out for env_id in ENV_IDS)
    assert "pip install 'sdar-envs[peer]'" in captured.err


def test_where_textworld_does_not_run_another_python_is_advised(measured, capsys, monkeypatch):
    monkeypatch.setattr(sys, "version_info", (3, 13, 1))
    assert main(["bench", "sdar/ALFWorld-v0"]) == 0
    assert "TextWorld does not run on Python 3.13, so there are no ratios" in capsys.readouterr().err


@pytest.mark.parametrize(("part", "package"), [("generation", "torch"), ("trainer", "transformers")])
def test_a_part_whose_extra_is_missing_is_refused_in_one_line(part, package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)
    assert main(["bench", part]) == 2
    err = capsys.readouterr().err
    assert err.count(f"measuring {part} needs {package}, which is not installed: pip install 'sdar-envs[train]'") == 2
    assert err.splitlines()[-1].startswith("error: ")


def test_what_needs_an_extra_is_left_out_of_the_rest(measured, monkeypatch, capsys):
    monkeypatch.setattr(bench, "SPECIFIC", {"sdar/WebShop-v0": ("webshop", "http")})
    monkeypatch.setitem(sys.modules, "starlette", None)
    assert main(["bench", "sdar/WebShop-v0"]) == 0
    captured = capsys.readouterr()
    assert "0.123" in captured.out
    assert "left out: measuring http needs starlette" in captured.err


def test_every_part_has_a_measure():
    for names in bench.SPECIFIC.values():
        for name in names:
            if name == "trl_update" and find_spec("trl") is None:  # of the extra peer
                continue
            assert callable(bench._load(name))


def test_what_the_command_refuses(measured, tmp_path, capsys):
    assert main(["bench", "sdar/WebShp-v0"]) == 2
    assert "Did you mean 'sdar/WebShop-v0'?" in capsys.readouterr().err
    with pytest.raises(MissingData, match="--output"):
        bench.read_baseline(tmp_path / "nothing.json")
    for content in ("{", "[]", '{"format": 0}', '{"format": 1}', '{"format": 1, "figures": [{}]}'):
        (tmp_path / "old.json").write_text(content)
        with pytest.raises(CorruptData, match="make it again"):
            bench.bench(["sdar/WebShop-v0"], Console(), baseline=tmp_path / "old.json")


@pytest.mark.parametrize(
    ("unit", "is_rate"),
    [("steps/CPU s", True), ("x", True), ("env-steps/CPU s", True), ("CPU ms", False), ("MB", False)],
)
def test_what_is_better(unit, is_rate):
    assert Figure("e", "w", 1.0, unit).is_rate == is_rate
