"""The measuring of the engines itself, on little data: what it measures, not how fast it is."""

import hashlib
import json
from itertools import islice

import pytest

from sdar_benchmarks.throughput import search_qa as module
from sdar_benchmarks.throughput.figures import Figures
from sdar_benchmarks.throughput.search_qa import extrapolated_table, large_passages, large_queries, large_table, main
from sdar_envs.search_qa.corpus import read_passages
from sdar_envs.search_qa.embedded import embedded_retriever


def sha256(texts):
    return hashlib.sha256("\n".join(texts).encode()).hexdigest()[:16]


def test_the_large_corpus_is_the_same_everywhere(monkeypatch):
    monkeypatch.setattr(module, "_VOCABULARY", 50_000)
    passages = list(islice(large_passages(300), 250))
    assert all(83 <= len(passage.contents.split()) <= 124 for passage in passages)
    assert 0.1 < sum(" the " in passage.contents for passage in passages) / 250 <= 1
    assert sha256([passage.contents for passage in passages]) == "80618a142fd1b69d"
    assert sha256(large_queries(20)) == "7560098e05b872d4"


def test_words_differ():
    words = [module._word(rank) for rank in range(20_000)]
    assert len(set(words)) == 20_000
    assert words[:3] == ["the", "of", "and"]
    assert len(words[100]) < len(words[19_999])


def test_the_embedded_measurement(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path))
    for name, value in {"_WARM_UP": 5, "_SINGLE": 10, "_BATCH": 8, "_BATCHES": 2, "_EPISODES": 20}.items():
        monkeypatch.setattr(module, name, value)
    embedded_retriever.cache_clear()
    figures = module._measure_embedded()
    embedded_retriever.cache_clear()
    assert figures.keys() == {"open", "oracle", "single", "single_wall", "batched", "batched_wall"}
    assert all(value > 0 for value in figures.values())
    assert (tmp_path / "search_qa").is_dir()


def test_no_query_is_asked_twice(monkeypatch):
    for name, value in {"_WARM_UP": 5, "_BATCH": 8, "_BATCHES": 2}.items():
        monkeypatch.setattr(module, name, value)
    asked = []

    class Watched:
        def search(self, queries, k):
            asked.append((tuple(queries), k))
            return [()] * len(queries)

    module._search_seconds(Watched(), [str(number) for number in range(31)])
    assert [(len(queries), k) for queries, k in asked] == [(5, 3), *[(1, 3)] * 10, (8, 3), (8, 3)]
    assert sorted(query for queries, _ in asked for query in queries) == sorted(map(str, range(31)))


def test_both_tables(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(module, "_VOCABULARY", 20_000)  # making two million words takes a second
    arguments = ["--passages", "300", "--engines", "bm25", "--folder", str(tmp_path), "--workers"]
    assert main([*arguments, "--output", str(tmp_path / "figures.json")]) == 0
    table = capsys.readouterr().out
    assert "300 passages of about 100 words, top 3" in table
    assert "extrapolated to 21,015,324 passages: the above times 70051.1; not measured" in table
    measured = json.loads((tmp_path / "figures.json").read_text())["bm25"]
    assert measured["passages"] == 300
    assert all(value > 0 for name, value in measured.items() if name != "first")
    assert measured["build_disk_bytes"] >= measured["disk_bytes"]
    assert measured["known"] == 1
    assert [len(found) for found in measured["first"]] == [10] * 20
    assert [path.name for path in tmp_path.iterdir()] == ["figures.json"]
    with pytest.raises(SystemExit):
        main(["--engines", "faiss"])


def test_the_corpus_alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_VOCABULARY", 20_000)
    assert main(["--passages", "40", "--write", str(tmp_path / "corpus.jsonl")]) == 0
    assert [passage for _, passage in read_passages(tmp_path / "corpus.jsonl")] == list(large_passages(40))


def test_a_corpus_that_was_written_before_is_measured_step_by_step(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_VOCABULARY", 20_000)
    assert main(["--passages", "40", "--write", str(tmp_path / "corpus.jsonl")]) == 0
    asked, kept = [], []

    def measure(*arguments):
        asked.append(arguments[:3])
        return {"passages": 40.0} if arguments[0] == "build" else {"known": 1.0}

    monkeypatch.setattr(module, "_in_new_process", measure)
    monkeypatch.setattr(module.shutil, "rmtree", lambda folder: None)
    module.measure_large(
        0,
        ["bm25"],
        tmp_path,
        corpus=tmp_path / "corpus.jsonl",
        done=lambda measured: kept.append({name: dict(of) for name, of in measured.items()}),
    )
    assert asked[0] == ("build", "bm25", str(tmp_path / "corpus.jsonl"))
    assert kept == [{"bm25": {"passages": 40.0}}, {"bm25": {"passages": 40.0, "known": 1.0}}]


def test_the_record_of_a_run_that_was_stopped_gives_the_rows_that_it_has():
    record = {
        "bm25": {"passages": 21_015_324, "single": 0.02, "first": [["1", "2"]], "server_2_rate": 50.0},
        "tantivy": {"passages": 21_015_324, "first": [["2", "3"]]},
    }
    title, rows = large_table(record)
    assert title == "21,015,324 passages of about 100 words, top 3"
    assert rows[0] == ("what", "bm25", "tantivy")
    assert ("single search, CPU ms", "20.0", "-") in rows
    assert ("64 clients, --workers 2: queries a second", "50.0", "-") in rows
    assert rows[-1] == ("of the first 10 of bm25, found among the first 10, %", "100", "50.0")
    assert extrapolated_table(record) is None


def test_what_grows_with_the_corpus_is_extrapolated_from_a_smaller_one():
    title, rows = extrapolated_table({"bm25": {"passages": 21_015_324 // 2, "single": 0.02, "known": 1.0}})
    assert title == "extrapolated to 21,015,324 passages: the above times 2.0; not measured"
    assert rows[0] == ("what", "bm25")
    assert ("single search, CPU ms", "40.0") in rows
    assert not any(what.startswith("passages found") for what, _ in rows)


@pytest.mark.slow  # a server and two processes that search import everything
def test_a_server_with_many_clients(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(module, "_VOCABULARY", 20_000)
    arguments = ["--passages", "300", "--engines", "bm25", "--folder", str(tmp_path), "--workers", "1", "2"]
    assert main([*arguments, "--output", str(tmp_path / "figures.json")]) == 0
    measured = json.loads((tmp_path / "figures.json").read_text())["bm25"]
    table = capsys.readouterr().out
    for workers in (1, 2):
        assert f"64 clients, --workers {workers}: queries a second" in table
        assert measured[f"server_{workers}_rate"] > 0
        assert 0 < measured[f"server_{workers}_median"] <= measured[f"server_{workers}_p95"]


def test_every_figure_of_the_embedded_size(monkeypatch):
    asked = []

    def measure(*arguments, cache):
        asked.append((arguments, cache))
        if arguments == ("invented",):
            return {"passages": 2.0, "questions": 13.0}
        return {"open": float(len(asked)), "oracle": 900.0, "single": 3e-4, "batched": 4e-5}

    monkeypatch.setattr(module, "_in_new_process", measure)
    module.measure(figures := Figures("sdar/SearchQA-v0"))
    assert [figure.value for figure in figures] == pytest.approx([2.0, 13.0, 2.0, 3000.0, 900.0, 0.3, 0.04])
    assert len({cache for _, cache in asked}) == 1
