"""What official data is there and what is missing, suite by suite, on small folders in the official formats."""

import json
import shutil
from pathlib import Path

import pytest

from sdar_envs.alfworld import data_check as alfworld
from sdar_envs.alfworld.export import export_game
from sdar_envs.data_check import CHECKED_SUITES, check_data, compared
from sdar_envs.errors import MissingData, UnknownName
from sdar_envs.registry import make_text_env
from sdar_envs.search_qa import data_check as search_qa
from sdar_envs.webshop import data_check as webshop


@pytest.fixture(autouse=True)
def bare(tmp_path, monkeypatch):
    """A machine without official data and with a cache of its own."""
    for name in ("ALFWORLD_DATA", "WEBSHOP_DATA", "SEARCH_QA_DATA"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))


@pytest.fixture
def games(tmp_path):
    for split, index in (("train", 0), ("valid_seen", 0), ("valid_seen", 1), ("valid_unseen", 0)):
        export_game(split, index, tmp_path / "alfworld" / "json_2.1.1", wording="put")
    return tmp_path / "alfworld"


def texts(findings, state):
    return [finding.text for finding in findings if finding.state == state]


@pytest.mark.parametrize("suite", CHECKED_SUITES)
def test_without_any_data_it_says_what_is_missing_and_where_it_comes_from(suite):
    findings = list(check_data(suite))
    assert findings[0].state == "missing"
    assert not texts(findings, "there")
    assert any(" from " in f" {text}" for text in texts(findings, "note"))
    assert all("\n" not in finding.text for finding in findings)


def test_an_unknown_suite_suggests_the_nearest():
    with pytest.raises(UnknownName, match="Did you mean 'alfworld'"):
        check_data("alfwrld")


def test_counts_are_compared_with_published_ones():
    assert compared("train, games", 3553, 3553) == ("there", "train, games: 3,553, as published")
    assert compared("train, games", 6, 3553) == ("missing", "train, games: 6, and 3,553 are published")
    assert compared("extra, games", 6, None) == ("note", "extra, games: 6")


def test_published_counts():
    assert alfworld.PUBLISHED == {"train": 3553, "valid_seen": 140, "valid_unseen": 134}
    assert sum(search_qa.PUBLISHED["test"].values()) == 51_713
    assert sum(search_qa.PUBLISHED["train"].values()) == 169_615


def test_alfworld_names_the_archives_of_the_release_that_hold_the_text_games():
    notes = " ".join(texts(check_data("alfworld"), "note"))
    assert "json_2.1.2_tw-pddl.zip" in notes
    assert "json_2.1.1_json.zip" in notes


def test_alfworld_games_are_counted_by_split_with_fingerprints(games, monkeypatch):
    findings = list(check_data("alfworld", str(games)))
    assert texts(findings, "missing") == [
        "train, games: 1, and 3,553 are published",
        "valid_seen, games: 2, and 140 are published",
        "valid_unseen, games: 1, and 134 are published",
    ]
    prints = [text for text in texts(findings, "note") if "fingerprint" in text]
    assert len(prints) == 3
    monkeypatch.setattr(alfworld, "PUBLISHED", {"train": 1, "valid_seen": 2, "valid_unseen": 1})
    moved = games.parent / "moved"
    games.rename(moved)
    findings = list(check_data("alfworld", moved))
    assert not texts(findings, "missing")
    assert [text for text in texts(findings, "note") if "fingerprint" in text] == prints, "wherever the data lies"
    assert any("wording 'put': games: 4" in text for text in texts(findings, "note"))


def test_alfworld_says_which_files_are_not_played_and_which_could_be(games):
    first, second = sorted(games.rglob("valid_seen/*/*/game.tw-pddl"))
    first.write_text(first.read_text()[:500])
    second.write_text(json.dumps(json.loads(second.read_text()) | {"solvable": False}))
    findings = list(check_data("alfworld", str(games)))
    (missing,) = [text for text in texts(findings, "missing") if str(first) in text]
    assert "not sound JSON" in missing
    assert "valid_seen, games that can be won without being marked (solvable='any'): 1" in texts(findings, "note")


def write_catalog(folder, suffix):
    folder.mkdir()
    product = {
        "asin": "B000000001",
        "category": "beauty",
        "query": "soap",
        "product_category": "Beauty > Soap",
        "name": "Green soap",
        "full_description": "Soap.",
        "small_description": ["green"],
        "pricing": "$5.00",
        "images": ["x"],
        "customization_options": {"color": [{"value": "green", "image": None}, {"value": "red", "image": None}]},
    }
    attributes = {
        "attributes": ["gentle"],
        "instruction": "Find me gentle soap",
        "instruction_attributes": ["gentle"],
    }
    (folder / f"items_shuffle{suffix}.json").write_text(json.dumps([product]))
    (folder / f"items_ins_v2{suffix}.json").write_text(json.dumps({"B000000001": attributes}))


def test_webshop_counts_products_and_goals_and_misses_the_instructions_by_people(tmp_path, monkeypatch):
    folder = tmp_path / "shop"
    write_catalog(folder, "_1000")
    findings = list(check_data("webshop", folder))
    assert texts(findings, "missing") == [
        "items_human_ins.json, for goals='human'",
        "products: 1, and 1,000 are published",
        "goals of the template: 2, and 6,910 are published",
    ]
    human = {"asin": "B000000001", "instruction": "soap", "instruction_attributes": ["gentle"]}
    human |= {"attributes": ["gentle"], "options": [], "instruction_options": []}
    (folder / "items_human_ins.json").write_text(json.dumps({"B000000001": [human]}))
    monkeypatch.setattr(webshop, "_SMALL", {"products": 1, "synthetic": 2, "human": 1})
    findings = list(check_data("webshop", folder))
    assert not texts(findings, "missing")
    assert "goals by people: 1, as published" in texts(findings, "there")
    assert any("fingerprint" in text for text in texts(findings, "note"))
    (folder / "items_shuffle_1000.json").write_text("[{")
    assert texts(check_data("webshop", folder), "missing")


def test_search_qa_counts_the_rows_of_each_data_set(tmp_path, monkeypatch):
    folder = tmp_path / "questions"
    for name, split, rows in (("nq", "test", 3), ("nq", "train", 2), ("hotpotqa", "dev", 4)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        lines = [
            json.dumps({"id": f"{split}{n}", "question": f"Q{n}?", "golden_answers": ["alpha"]}) for n in range(rows)
        ]
        (folder / name / f"{split}.jsonl").write_text("\n".join(lines))
    missing = texts(check_data("search_qa", folder), "missing")
    assert "test, nq, questions: 3, and 3,610 are published" in missing
    assert "test, hotpotqa, questions: 4, and 7,405 are published" in missing
    assert "test, popqa, questions: 0, and 14,267 are published" in missing
    monkeypatch.setattr(search_qa, "PUBLISHED", {"test": {"nq": 3, "hotpotqa": 4}, "train": {"nq": 2}})
    findings = list(check_data("search_qa", folder))
    assert not texts(findings, "missing")
    assert sum("fingerprint" in text for text in texts(findings, "note")) == 4
    (folder / "nq" / "test.jsonl").write_text("{")
    assert texts(check_data("search_qa", folder), "missing")
    shutil.rmtree(folder)
    assert "check data_dir" in texts(check_data("search_qa", folder), "missing")[0]


@pytest.mark.parametrize("kind", [str, Path])
def test_every_suite_finds_data_below_a_variable_and_by_path(games, tmp_path, monkeypatch, kind):
    write_catalog(tmp_path / "shop", "")
    (tmp_path / "questions").mkdir()
    (tmp_path / "questions" / "test.jsonl").write_text('{"question": "Q?", "golden_answers": ["alpha"]}')
    monkeypatch.setenv("DATA_OF_TODAY", str(tmp_path))
    for env_id, folder, split in (
        ("sdar/ALFWorld-v0", "alfworld/json_2.1.1", "valid_seen"),
        ("sdar/WebShop-v0", "shop", "test"),
        ("sdar/SearchQA-v0", "questions", "test"),
    ):
        options = {"retriever": "embedded"} if "SearchQA" in env_id else {}
        env = make_text_env(env_id, data="official", split=split, data_dir=kind(f"$DATA_OF_TODAY/{folder}"), **options)
        assert env.source.splits[split]
        with pytest.raises(MissingData, match=r"\$NOT_SET_ANYWHERE is not set"):
            make_text_env(env_id, data="official", split=split, data_dir=kind("$NOT_SET_ANYWHERE/x"), **options)
