"""`sdar index`: what it prints, what it refuses, and how it says so."""

import io
import re
import sys

import numpy as np
import pytest
from helpers.passages import ENCODER, bag_of_words, places, write_corpus

from sdar_benchmarks.cli.main import main
from sdar_envs.search_qa.retrieval.index import open_index
from sdar_envs.search_qa.retrieval.retriever import Passage


@pytest.fixture
def source(tmp_path):
    return str(write_corpus(tmp_path / "corpus.jsonl", places()))


@pytest.fixture
def run(capsys):
    def run(*arguments):
        status = main(["index", *map(str, arguments)])
        captured = capsys.readouterr()
        return status, captured.out, captured.err

    return run


def test_build_and_search(run, source, tmp_path):
    out = tmp_path / "out"
    status, printed, errors = run("build", source, "--out", out)
    assert (status, errors) == (0, "")
    assert printed.startswith(f"{out}: 80 passages, engine bm25\n")
    assert re.search(r"corpus 0\.01 MB, read in [\d.]+ s \([\d.]+ CPU s\)", printed)
    assert re.search(r"index built in [\d.]+ s \([\d.]+ CPU s\): [\d,]+ passages per second", printed)
    status, printed, errors = run("search", out, "river of Kaldorf", "-k", "2")
    assert (status, errors) == (0, "")
    lines = printed.splitlines()
    assert lines[0].startswith("1. River of Kaldorf  (id Kaldorf-river, score ")
    assert lines[1] == "   The river of the town of Kaldorf is tor."
    assert [line[0] for line in lines] == ["1", " ", "2", " "]
    assert run("search", out, "the") == (0, "", "nothing found\n")


def test_engines_by_name(run, source, tmp_path):
    pytest.importorskip("tantivy", reason="the package tantivy is not installed")
    assert run("build", source, "--out", tmp_path / "out", "--engine", "tantivy")[0] == 0
    assert open_index(tmp_path / "out").fingerprint.startswith("tantivy")


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engine", "tantivi"], "no engine 'tantivi'; the engines are bm25, bm25s, tantivy, faiss. Did you mean"),
        (["--engine", "faiss"], "the engine faiss needs an encoder: name a model by --encoder"),
        (["--factory", "Flat"], "the engine bm25 takes none"),
        (["--engine", "faiss", "--encoder", "none/such"], "sdar-envs[embedding]"),
    ],
)
def test_what_cannot_be_built(run, tmp_path, monkeypatch, arguments, complaint):
    source = write_corpus(tmp_path / "corpus.jsonl", places())
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    status, printed, errors = run("build", source, "--out", tmp_path / "out", *arguments)
    assert (status, printed) == (2, "")
    assert errors.startswith("error: ")
    assert complaint in errors
    assert not (tmp_path / "out").exists()


def test_an_encoder_that_is_not_there(run, source, tmp_path, monkeypatch):
    def load(name, **_):
        raise OSError(f"{name} is not a local folder")

    monkeypatch.setattr("sdar_envs.search_qa.retrieval.engines.encoder.sentence_encoder", load)
    arguments = ("build", source, "--out", tmp_path / "out", "--engine", "faiss", "--encoder", "none/such")
    expected = "error: the encoder 'none/such' cannot be loaded (none/such is not a local folder)\n"
    assert run(*arguments) == (2, "", expected)


def test_what_exists_is_kept(run, source, tmp_path):
    run("build", source, "--out", tmp_path / "out")
    status, _, errors = run("build", source, "--out", tmp_path / "out")
    assert status == 2
    assert "exists" in errors
    assert run("build", source, "--out", tmp_path / "out", "--overwrite")[0] == 0


def test_what_cannot_be_searched(run, source, tmp_path):
    status, _, errors = run("search", tmp_path / "none", "river")
    assert status == 2
    assert errors.startswith("error: there is no index")
    run("build", source, "--out", tmp_path / "out")
    assert run("search", tmp_path / "out", "river", "-k", "0")[0] == 2


def test_passages_do_not_steer_the_terminal(run, tmp_path):
    source = write_corpus(tmp_path / "odd.jsonl", [Passage("a\x1b[2J", '"Town\x07"\nred\x1b[31m town\n\nline two')])
    run("build", source, "--out", tmp_path / "out")
    _, printed, _ = run("search", tmp_path / "out", "town")
    assert printed.isascii()
    assert all(character.isprintable() or character == "\n" for character in printed)
    assert "   line two\n" in printed


def test_a_bar_on_a_terminal_only(source, tmp_path, monkeypatch, capsys):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    with monkeypatch.context() as patch:
        patch.setattr(sys, "stderr", terminal)
        assert main(["index", "build", source, "--out", str(tmp_path / "out")]) == 0
    assert "Reading corpus.jsonl" in terminal.getvalue()
    assert "Indexing with bm25" in terminal.getvalue()
    assert "Reading" not in capsys.readouterr().out


# -- dense indexes ------------------------------------------------------------------------------


@pytest.fixture
def no_model(monkeypatch):
    """An encoder that needs no model, whatever the name."""
    pytest.importorskip("faiss", reason="the package faiss is not installed")

    def load(name, **_):
        return ENCODER

    monkeypatch.setattr("sdar_envs.search_qa.retrieval.engines.encoder.sentence_encoder", load)
    monkeypatch.setattr("sdar_envs.search_qa.retrieval.index.sentence_encoder", load)


@pytest.mark.usefixtures("no_model")
def test_encode_build_fuse_check(run, source, tmp_path):
    rows, dense, words, both = (tmp_path / name for name in ("rows.npy", "dense", "words", "both"))
    encoder = ("--encoder", "bag-of-words")
    status, printed, _ = run("encode", source, "--out", rows, *encoder)
    assert (status, printed) == (0, f"{rows}: vectors of 80 passages by bag-of-words\n")
    assert np.array_equal(np.load(rows), bag_of_words([passage.contents for passage in places()]).astype(np.float16))
    assert run("build", source, "--out", words)[0] == 0
    ivf = ("--engine", "faiss", *encoder, "--factory", "IVF16,Flat", "--vectors", rows, "--nprobe", "2")
    assert run("build", source, "--out", dense, *ivf)[0] == 0
    status, printed, _ = run("fuse", words, dense, "--out", both)
    assert (status, printed) == (0, f"{both}: 80 passages, 2 rankings merged\n")
    assert run("search", both, "river of Kaldorf", "-k", "1")[1].startswith("1. River of Kaldorf")
    assert run("search", dense, "river of Kaldorf", "-k", "1", "--nprobe", "16")[1].startswith("1. River of Kaldorf")
    assert run("check", words) == (0, f"{words}: 80 passages, the files are whole\n", "")
    status, printed, _ = run("check", dense, "--against", rows, "--nprobe", "1", "16")
    lines = printed.splitlines()
    assert status == 0
    assert re.fullmatch(r"  nprobe 1: recall@10 0\.\d{4} over 80 queries, [\d.]+ ms a query", lines[1])
    assert lines[2].startswith("  nprobe 16: recall@10 1.0000")


@pytest.mark.usefixtures("no_model")
def test_what_a_check_refuses(run, source, tmp_path):
    words = tmp_path / "words"
    run("build", source, "--out", words)
    for arguments, complaint in (
        (["--nprobe", "3"], "name them by --against"),
        (["--nprobe", "3", "--ef-search", "3"], "not both"),
        (["--against", words], "is not an index of faiss"),
    ):
        status, _, errors = run("check", words, *arguments)
        assert status == 2
        assert errors.startswith("error: ")
        assert complaint in errors
    assert run("check", tmp_path / "none")[0] == 2
    assert (
        "dtype is 'int8'" in run("encode", source, "--out", tmp_path / "a.npy", "--encoder", "x", "--dtype", "int8")[2]
    )
