"""Indexes on disk: whole or not there, damage is noticed, nothing of others is deleted."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from helpers.passages import ENCODER, places, write_corpus

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.search_qa.retrieval import index as module
from sdar_envs.search_qa.retrieval.engines.bm25 import Bm25Retriever
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.index import ENGINES, bm25_over, build_index, open_index

PACKAGES = {"bm25s": "bm25s", "tantivy": "tantivy", "faiss": "faiss"}


@pytest.fixture
def source(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", places())


def build(source, out, engine, **options):
    if engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine], reason=f"the package {PACKAGES[engine]} is not installed")
    return build_index(source, out, engine, encoder=ENCODER if engine == "faiss" else None, **options)


def reopen(path, engine):
    return open_index(path, encoder=ENCODER if engine == "faiss" else None)


@pytest.mark.parametrize("engine", ENGINES)
def test_report(engine, source, tmp_path):
    report = build(source, tmp_path / "deep" / "out", engine)
    assert (report.engine, report.passages, report.path) == (engine, 80, tmp_path / "deep" / "out")
    assert report.corpus_bytes == sum(len((passage.id + passage.contents).encode()) for passage in places())
    files = [file for file in report.path.rglob("*") if file.is_file()]
    assert report.disk_bytes == sum(file.stat().st_size for file in files) > report.corpus_bytes
    assert min(report.corpus_seconds, report.corpus_cpu_seconds, report.engine_seconds, report.engine_cpu_seconds) > 0
    assert not [file for file in files if "lock" in file.name]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "deep"]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["out"]


def test_what_is_refused(source, tmp_path):
    with pytest.raises(UnknownName, match=r"no engine 'tantivi'; .* Did you mean 'tantivy'"):
        build_index(source, tmp_path / "out", "tantivi")
    with pytest.raises(InvalidOption, match="needs an encoder"):
        build_index(source, tmp_path / "out", "faiss")
    for options in ({"encoder": ENCODER}, {"factory": "Flat"}):
        with pytest.raises(InvalidOption, match="the engine bm25 takes none"):
            build_index(source, tmp_path / "out", "bm25", **options)
    with pytest.raises(MissingData, match="there is no corpus"):
        build_index(tmp_path / "none.jsonl", tmp_path / "out")
    source.write_bytes(source.read_bytes() + b"nonsense\n")
    with pytest.raises(CorruptData, match="line 81"):
        build_index(source, tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_only_an_index_is_overwritten(source, tmp_path):
    out = tmp_path / "out"
    build_index(source, out)
    with pytest.raises(InvalidOption, match="exists: name another folder, or overwrite it"):
        build_index(source, out)
    write_corpus(source, places()[:9])
    assert build_index(source, out, overwrite=True).passages == 9
    assert len(open_index(out).search(["town"], 80)[0]) == 9
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "chapter-1.txt").write_text("years of work")
    (tmp_path / "file").write_text("")
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for name in ("thesis", "file", "link", "corpus.jsonl"):
        with pytest.raises(InvalidOption, match="is not an index and will not be overwritten"):
            build_index(source, tmp_path / name, overwrite=True)
    assert (tmp_path / "thesis" / "chapter-1.txt").read_text() == "years of work"
    # What cannot be built replaces nothing.
    source.write_text("nonsense")
    with pytest.raises(CorruptData):
        build_index(source, out, overwrite=True)
    assert len(open_index(out).search(["town"], 80)[0]) == 9


def test_no_index(tmp_path, source):
    for path in (tmp_path / "none", source):
        with pytest.raises(MissingData, match="sdar index build CORPUS --out"):
            open_index(path)
    with pytest.raises(CorruptData, match=r"index\.json"):
        open_index(tmp_path)


def cut(path):
    os.truncate(path, path.stat().st_size - 2)


def flip(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 16
    path.write_bytes(content)


@pytest.mark.parametrize("how", [cut, flip, Path.unlink])
@pytest.mark.parametrize("engine", ENGINES)
def test_any_damaged_file_is_noticed(engine, how, source, tmp_path):
    out = tmp_path / "out"
    build(source, out, engine)
    shutil.copytree(out, tmp_path / "good")
    files = [file.relative_to(out) for file in out.rglob("*") if file.is_file() and file.stat().st_size]
    assert len(files) >= 5
    for name in files:
        if name.name == "index.json" and how is flip:
            continue  # a changed space changes nothing; nonsense is below
        how(out / name)
        with pytest.raises(CorruptData, match="cannot be used"):
            reopen(out, engine)
        shutil.copy(tmp_path / "good" / name, out / name)
    reopen(out, engine)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: [],
        lambda content: content | {"format": 0},
        lambda content: content | {"engine": "lucene"},
        lambda content: content | {"engine": ["bm25"]},
        lambda content: content | {"engine": "faiss"},
        lambda content: content | {"corpus": "0" * 64},
        lambda content: content | {"files": 3},
        lambda content: content | {"facts": None},
        lambda content: {name: value for name, value in content.items() if name != "facts"},
    ],
)
def test_nonsense_in_its_description(change, source, tmp_path):
    build_index(source, tmp_path / "out")
    path = tmp_path / "out" / "index.json"
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(CorruptData, match="cannot be used as an index"):
        open_index(tmp_path / "out")


@pytest.mark.parametrize("engine", ["bm25s", "tantivy", "faiss"])
def test_foreign_files_with_the_right_checksums(engine, source, tmp_path):
    build(source, tmp_path / "out", engine)
    path = tmp_path / "out" / "index.json"
    content = json.loads(path.read_text())
    for name in content["files"]:
        (tmp_path / "out" / name).write_bytes(b"something else entirely")
        content["files"][name] = {"size": 23, "checksum": module.checksum(tmp_path / "out" / name)}
    path.write_text(json.dumps(content))
    with pytest.raises(CorruptData, match="cannot be used as an index"):
        reopen(tmp_path / "out", engine)


def test_no_engine_is_imported_before_it_is_used(source, tmp_path):
    code = (
        "import sys\n"
        "from sdar_envs.search_qa.retrieval.index import build_index, open_index\n"
        "build_index(sys.argv[1], sys.argv[2])\n"
        "print(open_index(sys.argv[2]).search(['river of Kaldorf'], 1)[0][0].passage.id)\n"
        "print(*sorted({'bm25s', 'faiss', 'rich', 'tantivy', 'torch'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, str(source), str(tmp_path / "out")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "Kaldorf-river\n\n"


# -- builds that do not end well ----------------------------------------------------------------

_BUILD = """
import sys, time
from sdar_envs.search_qa.retrieval.engines import {engine} as engine
from sdar_envs.search_qa.retrieval import index
real = engine.reporting
def slow(passages, progress):
    for place, passage in enumerate(real(passages, progress)):
        if place == 40:
            print("half", flush=True)
            time.sleep(60)
        yield passage
engine.reporting = slow
index.build_index(sys.argv[1], sys.argv[2], "{engine}")
"""


def half_built(engine, source, out):
    command = [sys.executable, "-c", _BUILD.format(engine=engine), str(source), str(out)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "half\n"
    return process


@pytest.mark.parametrize("engine", ["bm25", "bm25s", "tantivy"])
def test_a_kill_leaves_nothing_that_opens(engine, source, tmp_path):
    if engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine], reason=f"the package {PACKAGES[engine]} is not installed")
    out = tmp_path / "out"
    with half_built(engine, source, out) as process:
        process.kill()
        process.communicate()
    assert not out.exists()
    remains = [path for path in tmp_path.iterdir() if path != source]
    assert remains
    for path in remains:
        with pytest.raises((CorruptData, MissingData)):
            open_index(path)
    build(source, out, engine)
    assert len(reopen(out, engine).search(["town"], 80)[0]) == 80
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "out"]


def test_an_interruption_leaves_nothing(source, tmp_path):
    out = tmp_path / "out"
    with half_built("bm25", source, out) as process:
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate()
    assert "KeyboardInterrupt" in errors
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


def test_two_builds_at_once(source, tmp_path):
    out = tmp_path / "out"
    with half_built("bm25", source, out) as process:
        with pytest.raises(InvalidOption, match=rf"out is being written by process {process.pid} on .*: wait for it"):
            build_index(source, out)
        process.kill()
        process.communicate()
    assert build_index(source, out).passages == 80


# -- encoders -----------------------------------------------------------------------------------


def test_the_encoder_is_remembered(source, tmp_path):
    build(source, tmp_path / "out", "faiss")
    other = Encoder("other", ENCODER.encode)
    prefixed = Encoder(ENCODER.name, ENCODER.encode, query_prefix="query: ")
    for encoder in (other, prefixed):
        with pytest.raises(InvalidOption, match=r"was built with 'bag-of-words', '' and '': give that one"):
            open_index(tmp_path / "out", encoder=encoder)
    build(source, tmp_path / "words", "bm25")
    with pytest.raises(InvalidOption, match="an index of bm25, which takes no encoder"):
        open_index(tmp_path / "words", encoder=ENCODER)


def test_a_remembered_name_is_loaded(source, tmp_path, monkeypatch):
    build(source, tmp_path / "out", "faiss")
    asked = []

    def load(name, **options):
        asked.append((name, options))
        return ENCODER

    monkeypatch.setattr(module, "sentence_encoder", load)
    assert open_index(tmp_path / "out").search(["river of Kaldorf"], 1)[0][0].passage.id == "Kaldorf-river"
    assert asked == [("bag-of-words", {"query_prefix": "", "passage_prefix": ""})]


# -- passages in memory -------------------------------------------------------------------------


def test_bm25_over_keeps_its_index(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    first = bm25_over(places(), "0123abcd")
    assert (tmp_path / "cache" / "search_qa" / "bm25-0123abcd" / "index.json").exists()
    monkeypatch.setattr("sdar_envs.bm25.index.SearchIndex.build", lambda *args, **kwargs: pytest.fail("built again"))
    again = bm25_over(places(), "0123abcd")
    assert again.search(["mayor of Kaldorf"], 3) == first.search(["mayor of Kaldorf"], 3)
    assert again.fingerprint == first.fingerprint == "bm25:0123abcd"
    with pytest.raises(CorruptData, match="the index is of 80 passages, the corpus has 9"):
        bm25_over(places()[:9], "0123abcd")


def test_from_disk_or_from_memory(source, tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    build_index(source, tmp_path / "out")
    queries = ["mayor of Kaldorf", "town", "", "Torstan river"]
    assert open_index(tmp_path / "out").search(queries, 9) == bm25_over(places(), "x").search(queries, 9)


@pytest.mark.parametrize("engine", ENGINES)
def test_threads_share_a_retriever(engine, source, tmp_path):
    build(source, tmp_path / "out", engine)
    retriever = reopen(tmp_path / "out", engine)
    queries = [passage.contents[:30] for passage in places()]
    expected = retriever.search(queries, 5)
    wrong = []

    def work(start):
        for place in range(start, len(queries), 4):
            if retriever.search([queries[place]], 5) != [expected[place]]:
                wrong.append(queries[place])

    threads = [threading.Thread(target=work, args=(start,)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert isinstance(retriever, Bm25Retriever) == (engine == "bm25")
