"""The measuring itself, on a tiny catalogue: what it measures, not how fast it is."""

import pytest

from sdar_benchmarks import throughput, throughput_skills, throughput_webshop
from sdar_benchmarks.figures import Figures, peak_megabytes
from sdar_envs.registry import ENV_IDS
from sdar_envs.webshop.catalog import CatalogFiles, load_catalog


def test_every_environment_and_the_skill_library_are_measured(capsys):
    assert tuple(throughput.MEASURES) == (*ENV_IDS, "skills")
    with pytest.raises(SystemExit):
        throughput.main(["--env", "sdar/WebShop"])
    assert "invalid choice" in capsys.readouterr().err


def test_a_catalogue_of_several_seeds(tmp_path, monkeypatch):
    monkeypatch.setattr(throughput_webshop, "_GENERATED_AT_ONCE", 60)
    throughput_webshop.write_catalogue(tmp_path, 120)
    catalog = load_catalog(CatalogFiles.find(str(tmp_path)))
    assert len(catalog) == 120
    assert len(set(catalog.titles[:60]) & set(catalog.titles[60:])) < 10


def test_starts_steps_and_searches(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    for name, value in {"_STEPS": 200, "_RESETS": 20, "_SEARCHES": 5}.items():
        monkeypatch.setattr(throughput_webshop, name, value)
    throughput_webshop.write_catalogue(tmp_path, 60)
    first = throughput_webshop._measure_start(str(tmp_path), is_first=True)
    assert first.keys() == {"start", "megabytes"}
    later = throughput_webshop._measure_start(str(tmp_path), is_first=False)
    assert later.keys() == {*first, "search", "steps", "reset_id", "reset_seed"}
    assert all(value >= 0 for value in later.values())
    assert 10 < peak_megabytes() < 10_000


def test_the_ledger_and_the_choice(monkeypatch):
    for name, value in {"_SHOWINGS": 64, "_BATCH": 16, "_CHOICES": 3, "_STEPS": 2}.items():
        monkeypatch.setattr(throughput_skills, name, value)
    figures = throughput_skills.measure()
    assert {figure.env for figure in figures} == {"skills"}
    assert [figure.what for figure in figures if "choice" in figure.what] == [
        "UCB choice among 60 skills",
        "Thompson choice among 60 skills",
    ]
    assert all(figure.value > 0 for figure in figures)


def test_the_whole_table(tmp_path, monkeypatch, capsys):
    def measure(progress):
        progress("nothing")
        figures = Figures("sdar/WebShop-v0")
        figures.add("steps", 12345.6, "steps/CPU s")
        figures.add("search", 0.1234, "CPU ms")
        return figures

    monkeypatch.setattr(throughput, "MEASURES", {"sdar/WebShop-v0": measure})
    assert throughput.main(["--output", str(tmp_path / "figures.json")]) == 0
    table = capsys.readouterr().out
    assert "12,346" in table
    assert "0.123" in table
    assert '"env": "sdar/WebShop-v0"' in (tmp_path / "figures.json").read_text()
