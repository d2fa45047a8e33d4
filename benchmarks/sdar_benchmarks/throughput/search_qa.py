"""Throughput of Search-QA's search engines on the embedded corpus, and on a large generated one.

`measure` takes the corpus `facts`, and makes a world of the corpus `invented`. Queries are the questions of the
test split and the oracle's searches, each asked once. Times are CPU seconds.

    python -m sdar_benchmarks.throughput.search_qa [--passages 1000000] [--engines bm25 tantivy] [--folder DIR]

measures a large corpus, which takes minutes to hours and, with bm25s, several GB of memory: passages of a hundred words
whose frequencies follow Zipf's law, each engine built and searched in processes of its own, also by `sdar serve
retriever` with 64 clients. `--write FILE` writes the corpus alone, as a stream; `--corpus FILE` measures such a file.
The record (`--output`) is written after every step, so one that was stopped has what was done until then. The last
table extrapolates a smaller corpus to the 21 million passages of wiki-18, as far as figures grow with the corpus; it is
not a measurement.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, replace
from pathlib import Path
from threading import Event, Thread
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Column, Table

import sdar_envs
from sdar_agents import make_agent
from sdar_benchmarks.throughput.figures import Figures, peak_megabytes
from sdar_envs.registry import make_text_env
from sdar_envs.search_qa.embedded import embedded_retriever
from sdar_envs.search_qa.invented.dataset import LEVELS
from sdar_envs.search_qa.invented.judging import Searching
from sdar_envs.search_qa.invented.making import make_data
from sdar_envs.search_qa.invented.passages import write_passages
from sdar_envs.search_qa.invented.world import make_world
from sdar_envs.search_qa.retrieval.client import HttpRetriever
from sdar_envs.search_qa.retrieval.engines.engine import Engine
from sdar_envs.search_qa.retrieval.index import build_index, open_index
from sdar_envs.search_qa.retrieval.retriever import Passage, Retriever
from sdar_envs.storage import with_progress, write_atomic

__all__ = ["extrapolated_table", "large_passages", "large_queries", "large_table", "main", "measure", "write_corpus"]

_SEARCH_QA = "sdar/SearchQA-v0"
_K = 3
_BATCH = 256
_WARM_UP = 100
_SINGLE = 1_000
_BATCHES = 2
_EPISODES = 1_000
_LARGE_SINGLE = 200
_DEPTH = 10
_KNOWN = 200
_COMPARED = 20
_WIKI_18 = 21_015_324
_LARGE_ENGINES = ("bm25", "bm25s", "tantivy")


# -- the embedded corpus ------------------------------------------------------------------------


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of the embedded corpora and of the oracle; takes about twenty seconds."""
    with tempfile.TemporaryDirectory() as folder:
        progress("an invented world")
        world = _in_new_process("invented", cache=folder)
        progress("the embedded corpus")
        first = _in_new_process("embedded", cache=folder)
        later = _in_new_process("embedded", cache=folder)
    figures.add("invented world, its passages and their index", world["passages"], "CPU s")
    figures.add("invented world of another seed, all questions with filters", world["questions"], "CPU s")
    figures.add("embedded corpus read, index built and kept", first["open"], "CPU s")
    figures.add("embedded corpus read, kept index opened", later["open"] * 1e3, "CPU ms")
    figures.add("whole episodes of the agent oracle, each question new", later["oracle"], "episodes/CPU s")
    figures.add(f"single search, top {_K}", later["single"] * 1e3, "CPU ms")
    figures.add(f"search in batches of {_BATCH}, top {_K}", later["batched"] * 1e3, "CPU ms")


def _measure_embedded() -> dict[str, float]:
    started = time.process_time()
    retriever = embedded_retriever()
    opened = time.process_time() - started
    oracle = _oracle_episodes()
    tasks = sdar_envs.tasks(_SEARCH_QA, corpus="facts", split="test")
    queries = dict.fromkeys(query for task in tasks for query in (task.instruction, *task.data["queries"]))
    searched = _search_seconds(retriever, list(queries)[: _WARM_UP + _SINGLE + _BATCHES * _BATCH])
    return {"open": opened, "oracle": oracle, **searched}


def _measure_invented() -> dict[str, float]:
    """Return the CPU seconds of passages and index of a world, and of a data set that no verdicts were shipped for."""
    settings = replace(LEVELS["default"], seed=2)
    started = time.process_time()
    text = write_passages(make_world("bench", settings.entities, None), "bench", settings.at_object)
    Searching(text.passages)
    passages = time.process_time() - started
    started = time.process_time()
    make_data(settings)
    return {"passages": passages, "questions": time.process_time() - started}


def _oracle_episodes() -> float:
    """Return the episodes per CPU second of the oracle, the agent's time included."""
    env = make_text_env(_SEARCH_QA, corpus="facts", split="train")
    ids = [task.id for task in sdar_envs.tasks(_SEARCH_QA, corpus="facts", split="train", limit=_EPISODES)]
    agent = make_agent("oracle")
    started = time.process_time()
    for task_id in ids:
        observation, info = env.reset(options={"task_id": task_id})
        agent.reset(env, observation, info, 0)
        terminated = truncated = False
        while not (terminated or truncated):
            observation, _, terminated, truncated, info = env.step(agent.act(observation, info))
        assert info["won"]
    return len(ids) / (time.process_time() - started)


def _search_seconds(retriever: Retriever, queries: Sequence[str]) -> dict[str, float]:
    """Return CPU seconds and seconds of the clock per query, one by one and in batches; no query is asked twice."""
    retriever.search(queries[:_WARM_UP], _K)
    batches = [queries[end - _BATCH : end] for end in range(len(queries), _WARM_UP + _BATCH - 1, -_BATCH)][:_BATCHES]
    singles = queries[_WARM_UP : len(queries) - len(batches) * _BATCH]
    started, started_wall = time.process_time(), time.perf_counter()
    for query in singles:
        retriever.search([query], _K)
    single, single_wall = time.process_time() - started, time.perf_counter() - started_wall
    started, started_wall = time.process_time(), time.perf_counter()
    for batch in batches:
        retriever.search(batch, _K)
    batched, batched_wall = time.process_time() - started, time.perf_counter() - started_wall
    return {
        "single": single / len(singles),
        "single_wall": single_wall / len(singles),
        "batched": batched / (len(batches) * _BATCH),
        "batched_wall": batched_wall / (len(batches) * _BATCH),
    }


# -- a large corpus -----------------------------------------------------------------------------

_VOCABULARY = 2_000_000
_STOP_WORD_LIST = "the of and in to a is was it for as on with by at that an be are this or not but they will"
_STOP_WORDS = tuple(_STOP_WORD_LIST.split(" "))
_CONTENT = 300  # words beyond this rank are not in every tenth passage
_AT_ONCE = 20_000
_SHOWN_FROM = 100_000
_CLIENTS = 64
_CONSONANTS = "bdfgklmnprstvz"


def _word(rank: int) -> str:
    """Return the word with this rank: stop words first, then invented ones, the more common the shorter."""
    if rank < len(_STOP_WORDS):
        return _STOP_WORDS[rank]
    number, word = rank + 70, ""
    while number:
        number, syllable = divmod(number, 70)
        word = _CONSONANTS[syllable // 5] + "aeiou"[syllable % 5] + word
    return word


class _Zipf:
    """Zipf-distributed ranks of words, reproducible for a seed."""

    def __init__(self, seed: int) -> None:
        weights = 1 / (np.arange(_VOCABULARY) + 2.7) ** 1.05
        self._sums = np.cumsum(weights) / weights.sum()
        # The stream of a bit generator is guaranteed, that of numpy's distributions is not.
        self._bits = np.random.PCG64(seed)

    def shares(self, count: int) -> Any:
        """Return numbers in [0, 1)."""
        return (self._bits.random_raw(count) >> 11) * 2.0**-53

    def ranks(self, count: int) -> NDArray[np.int64]:
        """Return ranks; lower ones are more frequent."""
        ranks: NDArray[np.int64] = np.searchsorted(self._sums, self.shares(count), side="right")
        return ranks


def _large_ranks(count: int) -> Iterator[NDArray[np.int64]]:
    zipf = _Zipf(1)
    for start in range(0, count, _AT_ONCE):
        lengths = 80 + (41 * zipf.shares(min(_AT_ONCE, count - start))).astype(np.int64)
        ends = np.cumsum(lengths)
        yield from np.split(zipf.ranks(int(ends[-1])), ends[:-1])


def large_passages(count: int) -> Iterator[Passage]:
    """Yield passages of 80 to 120 words."""
    words = np.array([_word(rank) for rank in range(_VOCABULARY)], dtype=object)
    for i, ranks in enumerate(_large_ranks(count)):
        text = words[ranks].tolist()
        yield Passage(str(i), f'"{" ".join(text[:3]).title()}"\n{" ".join(text)}')


def write_corpus(path: Path, count: int) -> None:
    """Write `large_passages` to a file in the form of wiki-18, one at a time; progress is shown on standard error."""
    passages = with_progress(large_passages(count), "Passages written", total=count, show_from=_SHOWN_FROM)
    write_atomic(path, (json.dumps({"id": passage.id, "contents": passage.contents}) + "\n" for passage in passages))


def large_queries(count: int) -> list[str]:
    """Return queries of ten words: three from one generated passage, seven drawn by frequency."""
    zipf = _Zipf(2)
    queries = []
    for ranks in _large_ranks(count):
        content = np.unique(ranks[ranks >= _CONTENT]).tolist()
        chosen = [content[int(share * len(content))] for share in zipf.shares(3)] + zipf.ranks(7).tolist()
        queries.append(" ".join(map(_word, chosen)))
    return queries


def measure_large(
    passages: int,
    engines: Sequence[str],
    folder: Path,
    progress: Callable[[str], None] = lambda _: None,
    *,
    workers: Sequence[int] = (),
    corpus: Path | None = None,
    done: Callable[[Mapping[str, Mapping[str, Any]]], None] = lambda _: None,
) -> dict[str, dict[str, Any]]:
    """Return times, memory and disk space of each engine on a generated corpus, and what it finds first.

    Args:
        passages: number of passages to generate.
        engines: names in `sdar_envs.search_qa.retrieval.index.ENGINES`, without faiss.
        folder: holds the corpus and one index at a time.
        progress: called with what is measured next.
        workers: numbers of processes of a server, which is then asked by many clients.
        corpus: a file that `write_corpus` made, used instead of generating one.
        done: called after every step with what has been measured until then.
    """
    source, queries = folder / "corpus.jsonl" if corpus is None else corpus, folder / "queries.json"
    if corpus is None:
        progress(f"writing {passages:,} passages")
        write_corpus(source, passages)
    queries.write_text(json.dumps(large_queries(_WARM_UP + _LARGE_SINGLE + 2 * _BATCH)), encoding="utf-8")
    measured: dict[str, dict[str, Any]] = {}
    for engine in engines:
        out = folder / engine
        progress(f"{engine}: building")
        of = measured[engine] = dict(_in_new_process("build", engine, str(source), str(out)))
        done(measured)
        progress(f"{engine}: searching")
        of |= _in_new_process("search", str(out), str(queries))
        done(measured)
        asked = json.loads(queries.read_text(encoding="utf-8"))
        for number in workers:
            progress(f"{engine}: {_CLIENTS} clients, workers: {number}")
            of |= _measure_server(out, asked, number)
            done(measured)
        shutil.rmtree(out)
    return measured


def _measure_build(engine: str, source: str, out: str) -> dict[str, float]:
    most, most_disk, has_ended = _private_megabytes(), 0, Event()

    def watch() -> None:
        nonlocal most, most_disk
        ticks = 0
        while not has_ended.wait(0.05):
            most = max(most, _private_megabytes())
            if ticks % 40 == 0:
                most_disk = max(most_disk, _disk_bytes(Path(out)))
            ticks += 1

    thread = Thread(target=watch, daemon=True)
    thread.start()
    report = asdict(build_index(source, out, engine, progress=False))
    has_ended.set()
    thread.join()
    numbers = {name: value for name, value in report.items() if isinstance(value, int | float)}
    return {
        **numbers,
        "build_megabytes": peak_megabytes(),
        "build_private_megabytes": most,
        "build_disk_bytes": max(most_disk, report["disk_bytes"]),
    }


def _disk_bytes(out: Path) -> int:
    """Return the size of what is being built: an index has another name in the same folder until it is complete."""
    total = 0
    for file in out.parent.glob(f".{out.name}=*/**/*"):
        with suppress(FileNotFoundError):
            total += 0 if file.is_dir() else file.stat().st_size
    return total


def _private_megabytes() -> float:
    """Return the memory of this process without mapped files; 0 where the system does not tell."""
    try:
        status = Path("/proc/self/status").read_text(encoding="ascii")
    except OSError:
        return 0.0
    return int(status.partition("RssAnon:")[2].split()[0]) / 1e3


def _measure_server(index: Path, queries: Sequence[str], workers: int) -> dict[str, float]:
    """Return queries per second and latencies of a server that 64 clients ask one query at a time."""
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "serve", "retriever", "--port", "0", "--index", str(index)]
    with subprocess.Popen(
        [*command, "--workers", str(workers)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    ) as server:
        try:
            assert server.stdout is not None
            address = next(word for word in server.stdout.readline().split() if word.startswith("http"))
            retriever = HttpRetriever(address)
            retriever.search(queries[:_WARM_UP], _K)

            def ask(query: str) -> float:
                started = time.perf_counter()
                retriever.search([query], _K)
                return time.perf_counter() - started

            with ThreadPoolExecutor(_CLIENTS) as clients:
                started = time.perf_counter()
                waited = sorted(clients.map(ask, queries[_WARM_UP:]))
                seconds = time.perf_counter() - started
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate()
    return {
        f"server_{workers}_rate": len(waited) / seconds,
        f"server_{workers}_median": waited[len(waited) // 2],
        f"server_{workers}_p95": waited[len(waited) * 95 // 100],
    }


def _measure_search(path: str, queries: str) -> dict[str, Any]:
    asked = json.loads(Path(queries).read_text(encoding="utf-8"))
    started, started_wall = time.process_time(), time.perf_counter()
    retriever = open_index(path)
    opened = {"open": time.process_time() - started, "open_wall": time.perf_counter() - started_wall}
    seconds = _search_seconds(retriever, asked)
    megabytes = peak_megabytes()
    return {
        **opened,
        **seconds,
        "search_megabytes": megabytes,
        "known": _known_found(retriever),
        "first": [[hit.passage.id for hit in hits] for hits in retriever.search(asked[:_COMPARED], _DEPTH)],
    }


def _known_found(retriever: Engine) -> float:
    """Return for which share of passages, evenly spread over the corpus, ten of their words find them."""
    passages = retriever.passages
    asked = [passages[(2 * i + 1) * len(passages) // (2 * _KNOWN)] for i in range(_KNOWN)]
    found = retriever.search([" ".join(passage.contents.split()[8:58:5]) for passage in asked], _DEPTH)
    return sum(
        passage.id in [hit.passage.id for hit in hits] for passage, hits in zip(asked, found, strict=True)
    ) / len(asked)


# -- processes and tables -----------------------------------------------------------------------

_MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "embedded": _measure_embedded,
    "invented": _measure_invented,
    "build": _measure_build,
    "search": _measure_search,
}


def _in_new_process(*arguments: str, cache: str | None = None) -> dict[str, Any]:
    """Measure in a fresh process: nothing is in memory yet, and the peak is this measurement's own."""
    environment = os.environ if cache is None else os.environ | {"SDAR_CACHE_DIR": cache}
    code = (
        "import json, sys\n"
        "from sdar_benchmarks.throughput.search_qa import _MEASURES\n"
        "print(json.dumps(_MEASURES[sys.argv[1]](*sys.argv[2:])))\n"
    )
    command = [sys.executable, "-c", code, *arguments]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    measured: dict[str, Any] = json.loads(output)
    return measured


_ROWS = (
    # what, figure, factor, whether it grows with the corpus
    ("corpus imported, CPU s", "corpus_cpu_seconds", 1, True),
    ("index built, CPU s", "engine_cpu_seconds", 1, True),
    ("index built, s", "engine_seconds", 1, True),
    ("peak memory of the build, mapped files included, MB", "build_megabytes", 1, True),
    ("peak memory of the build, without mapped files, MB", "build_private_megabytes", 1, False),
    ("corpus on disk, MB", "corpus_bytes", 1e-6, True),
    ("corpus and index on disk, MB", "disk_bytes", 1e-6, True),
    ("most disk while building, MB", "build_disk_bytes", 1e-6, True),
    ("opened, CPU ms", "open", 1e3, False),
    ("opened, ms", "open_wall", 1e3, False),
    ("single search, CPU ms", "single", 1e3, True),
    ("single search, ms", "single_wall", 1e3, True),
    (f"search in batches of {_BATCH}, CPU ms", "batched", 1e3, True),
    ("peak memory of searching, mapped files included, MB", "search_megabytes", 1, False),
    (f"passages found among the first {_DEPTH} by ten of their words, %", "known", 1e2, False),
)


def _server_rows(measured: Mapping[str, Mapping[str, Any]]) -> list[tuple[str, str, float, bool]]:
    names = {name for numbers in measured.values() for name in numbers}
    rows: list[tuple[str, str, float, bool]] = []
    for workers in sorted({int(name.split("_")[1]) for name in names if name.startswith("server_")}):
        told = f"{_CLIENTS} clients, --workers {workers}"
        rows += [
            (f"{told}: queries a second", f"server_{workers}_rate", 1, False),
            (f"{told}: median, ms", f"server_{workers}_median", 1e3, False),
            (f"{told}: 95th percentile, ms", f"server_{workers}_p95", 1e3, False),
        ]
    return rows


TitledRows = tuple[str, list[tuple[str, ...]]]
"""Title and rows of a table; the first row is the head."""


def large_table(measured: Mapping[str, Mapping[str, Any]]) -> TitledRows:
    """Return the table of a record of `measure_large`."""
    rows = [*_figure_rows(measured, 1), *_shared_rows(measured)]
    return f"{_passages(measured):,} passages of about 100 words, top {_K}", rows


def extrapolated_table(measured: Mapping[str, Mapping[str, Any]]) -> TitledRows | None:
    """Return the figures that grow with the corpus, extrapolated to wiki-18; None if the corpus is as large."""
    scale = _WIKI_18 / _passages(measured)
    if scale <= 1:
        return None
    title = f"extrapolated to {_WIKI_18:,} passages: the above times {scale:.1f}; not measured"
    return title, list(_figure_rows(measured, scale))


def _passages(measured: Mapping[str, Mapping[str, Any]]) -> int:
    return int(next(iter(measured.values()))["passages"])


def _figure_rows(measured: Mapping[str, Mapping[str, Any]], scale: float) -> Iterator[tuple[str, ...]]:
    """Yield the head and the figures of a record; for another scale than 1, those that grow, times it."""
    yield "what", *measured
    is_scaled = scale != 1
    for what, figure, unit, grows in (*_ROWS, *_server_rows(measured)):
        if is_scaled and not grows:
            continue
        cells = []
        for engine, numbers in measured.items():
            # The others gather a fixed number of postings; what else they show is mapped.
            is_mapped = is_scaled and figure == "build_megabytes" and engine != "bm25s"
            known = None if is_mapped else numbers.get(figure)  # a record of a run that was stopped has a part
            cells.append("-" if known is None else _shown(known * unit * scale))
        yield what, *cells


def _shown(value: float) -> str:
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def _shared_rows(measured: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, ...]]:
    """Yield a row that says how many of the passages that the first engine finds first the others find, too."""
    firsts = [numbers["first"] for numbers in measured.values() if "first" in numbers]
    if len(firsts) == len(measured) > 1:
        wanted = sum(map(len, firsts[0]))
        cells = []
        for found in firsts:
            shared = sum(len(set(some) & set(others)) for some, others in zip(firsts[0], found, strict=True))
            cells.append(_shown(100 * shared / wanted))
        yield f"of the first {_DEPTH} of {next(iter(measured))}, found among the first {_DEPTH}, %", *cells


def main(argv: list[str] | None = None) -> int:
    """Measure a large corpus and print two tables: the figures, and their extrapolation to wiki-18."""
    parser = argparse.ArgumentParser(
        prog="python -m sdar_benchmarks.throughput.search_qa", description="Search engines over a large corpus."
    )
    parser.add_argument("--passages", type=int, default=1_000_000, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--engines", nargs="+", choices=_LARGE_ENGINES, default=_LARGE_ENGINES, metavar="NAME")
    parser.add_argument("--output", type=Path, metavar="FILE", help="keep what was measured as JSON, after every step")
    parser.add_argument("--folder", metavar="DIR", help="where the corpus and the indexes go for the time being")
    parser.add_argument(
        "--workers", type=int, nargs="*", default=(1,), metavar="N", help="processes of the server (default: 1)"
    )
    parser.add_argument("--write", type=Path, metavar="FILE", help="write the corpus there, and measure nothing")
    parser.add_argument("--corpus", type=Path, metavar="FILE", help="measure this one, which --write made")
    arguments = parser.parse_args(argv)
    if arguments.write is not None:
        write_corpus(arguments.write, arguments.passages)
        return 0

    def keep(measured: Mapping[str, Mapping[str, Any]]) -> None:
        if arguments.output is not None:
            write_atomic(arguments.output, json.dumps(measured, indent=2) + "\n")

    console = Console(stderr=True)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder, console.status("measuring") as status:
        measured = measure_large(
            arguments.passages,
            arguments.engines,
            Path(folder),
            lambda what: status.update(f"measuring: {what}"),
            workers=arguments.workers,
            corpus=arguments.corpus,
            done=keep,
        )
    for titled in (large_table(measured), extrapolated_table(measured)):
        if titled is None:
            continue
        title, (head, *rows) = titled
        table = Table(*(Column(name, justify="right" if place else "left") for place, name in enumerate(head)))
        for row in rows:
            table.add_row(*row)
        Console().print(title, table, sep="\n", highlight=False)
    return 0


if __name__ == "__main__":
    sys.exit(main())
