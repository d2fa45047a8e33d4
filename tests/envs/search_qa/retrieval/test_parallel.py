"""Searching in several processes: the answers of one, and processes that fail."""

import os
import signal
from functools import partial

import pytest
from helpers.live import served
from helpers.passages import places, write_corpus

from sdar_benchmarks.cli.main import main
from sdar_envs.errors import InvalidOption, MissingData
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.index import build_index, open_index
from sdar_envs.search_qa.retrieval.parallel import ParallelRetriever
from sdar_envs.search_qa.retrieval.retriever import RetrievalFailed

QUERIES = ["river of Kaldorf", "mayor Torstan", "", "1100", "town", "town", "Ada"]


@pytest.fixture
def index(tmp_path):
    build_index(write_corpus(tmp_path / "corpus.jsonl", places()), tmp_path / "index")
    return tmp_path / "index"


def test_processes_answer_as_one_and_are_replaced(index):
    alone = open_index(index)
    with ParallelRetriever(partial(open_index, index), 2) as retriever:
        assert (retriever.fingerprint, retriever.passage_count) == (alone.fingerprint, 80)
        for count in (len(QUERIES), 2, 1, 0):
            assert retriever.search(QUERIES[:count], 5) == alone.search(QUERIES[:count], 5)
        # What a search raises in a process is raised here, and the next one is answered by the same process.
        with pytest.raises(InvalidOption, match="k is 0"):
            retriever.search(QUERIES, 0)
        first = retriever._workers[0]._process
        os.kill(first.pid, signal.SIGKILL)
        first.join()
        with pytest.raises(RetrievalFailed, match=r"a process that searches has ended \(exit status -9\)"):
            retriever.search(QUERIES, 5)
        assert retriever.search(QUERIES, 5) == alone.search(QUERIES, 5)
        processes = [worker._process for worker in retriever._workers]
    assert [process.exitcode for process in processes] == [0, 0]


def test_what_cannot_be_opened(tmp_path):
    for workers in (0, -1, 1.5, True, 9999):
        with pytest.raises(InvalidOption, match="wanted how many processes search"):
            ParallelRetriever(partial(open_index, tmp_path / "none"), workers)
    with pytest.raises(MissingData, match="there is no index"):
        ParallelRetriever(partial(open_index, tmp_path / "none"), 1)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--engine", "tantivy"], "--engine is for an index of your own"),
        (["--nprobe", "4"], "--nprobe is for an index of your own"),
        (["--index", "INDEX", "--engine", "tantivy"], "is an index of bm25, not of tantivy"),
        (["--index", "INDEX", "--nprobe", "4"], "is an index of bm25, which takes no nprobe"),
        (["--index", "INDEX", "--workers", "0"], "workers is 0"),
        (["--index", "NEW", "--corpus", "CORPUS", "--engine", "faiss"], "needs an encoder"),
        (["--index", "NEW", "--corpus", "CORPUS", "--engine", "bm26"], "no engine 'bm26'"),
    ],
)
def test_what_is_not_served(index, arguments, complaint, capsys):
    named = {"INDEX": index, "NEW": index.parent / "new", "CORPUS": index.parent / "corpus.jsonl"}
    assert main(["serve", "retriever", "--port", "0", *(str(named.get(each, each)) for each in arguments)]) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ")
    assert complaint in error


@pytest.mark.slow  # three processes import everything
def test_a_server_of_several_processes_builds_its_index(tmp_path):
    source = write_corpus(tmp_path / "corpus.jsonl", places())
    arguments = ("--index", str(tmp_path / "index"), "--corpus", str(source), "--workers", "2")
    with served("retriever", *arguments) as (address, process):
        retriever = HttpRetriever(address)
        alone = open_index(tmp_path / "index")
        assert retriever.fingerprint == alone.fingerprint
        assert retriever.search(QUERIES, 5) == alone.search(QUERIES, 5)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert errors.splitlines() == [f"{tmp_path / 'index'}: 80 passages indexed", "stopped"]
