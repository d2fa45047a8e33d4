"""Search indexes on disk: built once from a corpus file, opened by any process.

    build_index("wiki-18.jsonl.gz", "wiki-18-index", engine="tantivy")
    retriever = open_index("wiki-18-index")

A folder holds the corpus (`corpus`), what the engine makes of it (`engine`), and `index.json`, which is written last
and names the engine and all files with their checksums. It is built under another name in the same folder, so an index
that can be opened is whole; the remains of a build that was killed are swept away by the next one. Opening compares
checksums as `sdar_envs.files.arrays` does.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from sdar_envs.bm25.index import open_or_build
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName, did_you_mean
from sdar_envs.files.arrays import checksum
from sdar_envs.files.json_text import parse_json
from sdar_envs.files.locks import writing_path
from sdar_envs.files.replacing import hidden_name, replace_folder, sweep, sweep_behind
from sdar_envs.printing import console
from sdar_envs.search_qa.corpus import Corpus, import_corpus
from sdar_envs.search_qa.retrieval.engines.bm25 import Bm25Retriever
from sdar_envs.search_qa.retrieval.engines.bm25s import Bm25sRetriever
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder, sentence_encoder
from sdar_envs.search_qa.retrieval.engines.faiss import FaissRetriever
from sdar_envs.search_qa.retrieval.engines.tantivy import TantivyRetriever
from sdar_envs.search_qa.retrieval.retriever import Passage, Retriever

__all__ = ["ENGINES", "BuildReport", "bm25_over", "build_index", "open_index"]

ENGINES = ("bm25", "bm25s", "tantivy", "faiss")
"""The engines that an index on disk can have."""

_FORMAT = 1


class _WordEngine(Protocol):
    """An engine that needs nothing but the passages."""

    def build(self, passages: Sequence[Passage], path: Path, progress: Callable[[int], None]) -> dict[str, Any]: ...
    def open(self, path: Path, passages: Sequence[Passage], fingerprint: str) -> Retriever: ...


_WORD_ENGINES: Mapping[str, _WordEngine] = {
    "bm25": Bm25Retriever,
    "bm25s": Bm25sRetriever,
    "tantivy": TantivyRetriever,
}


@dataclass(frozen=True, slots=True)
class BuildReport:
    """Size and time of building an index.

    Attributes:
        path: the folder.
        engine: one of `ENGINES`.
        passages: how many there are.
        corpus_bytes: ids and contents in UTF-8.
        disk_bytes: the whole folder, the corpus included.
        corpus_seconds: importing the corpus, by the clock.
        corpus_cpu_seconds: the same in CPU seconds of this process.
        engine_seconds: indexing it, by the clock.
        engine_cpu_seconds: the same in CPU seconds of this process.
    """

    path: Path
    engine: str
    passages: int
    corpus_bytes: int
    disk_bytes: int
    corpus_seconds: float
    corpus_cpu_seconds: float
    engine_seconds: float
    engine_cpu_seconds: float


def build_index(
    source: str | Path,
    out: str | Path,
    engine: str = "bm25",
    *,
    encoder: Encoder | None = None,
    factory: str | None = None,
    overwrite: bool = False,
    progress: bool = True,
) -> BuildReport:
    """Build an index of a corpus file in a new folder.

    Args:
        source: JSON Lines, see `sdar_envs.search_qa.corpus`.
        out: the folder; it appears when the index is complete.
        engine: one of `ENGINES`.
        encoder: makes the vectors of `faiss`, which needs it.
        factory: the kind of index of `faiss`, as it names them; by default `Flat`.
        overwrite: replace the folder if it exists.
        progress: show bars on standard error if that is a terminal.

    Raises:
        UnknownName: there is no such engine.
        InvalidOption: the folder exists, another process builds it, or an option does not fit the engine.
        MissingData: there is no such corpus.
        CorruptData: a line of it is not a passage, or two have the same id.
        MissingExtra: the engine's package is not installed.
        OSError: the folder cannot be written.
    """
    source, out = Path(source), Path(os.path.abspath(out))
    _check_engine(engine, encoder, factory)
    if not source.is_file():
        raise MissingData(f"there is no corpus {source}.")
    _refuse_existing(out, overwrite)
    started, started_cpu = time.perf_counter(), time.process_time()
    with _workspace(out, overwrite) as folder:
        with _bar(f"Reading {source.name}", source.stat().st_size, progress) as report:
            corpus = import_corpus(source, folder / "corpus", report)
        imported, imported_cpu = time.perf_counter(), time.process_time()
        with _bar(f"Indexing with {engine}", len(corpus), progress) as report:
            if encoder is not None:
                facts = FaissRetriever.build(
                    corpus, folder / "engine", report, encoder=encoder, factory="Flat" if factory is None else factory
                )
            else:
                facts = _WORD_ENGINES[engine].build(corpus, folder / "engine", report)
        _write_manifest(folder, engine, corpus, facts)
        return BuildReport(
            path=out,
            engine=engine,
            passages=len(corpus),
            corpus_bytes=corpus.nbytes,
            disk_bytes=sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()),
            corpus_seconds=imported - started,
            corpus_cpu_seconds=imported_cpu - started_cpu,
            engine_seconds=time.perf_counter() - imported,
            engine_cpu_seconds=time.process_time() - imported_cpu,
        )


def open_index(path: str | Path, *, encoder: Encoder | None = None) -> Retriever:
    """Open an index that `build_index` made.

    Args:
        path: the folder.
        encoder: makes the vectors of queries for an index of `faiss`; by default the sentence-transformers model with
            the name that the index remembers.

    Raises:
        MissingData: there is no such folder.
        CorruptData: it is not an index, damaged, or of another version of this package.
        InvalidOption: the encoder is not the one that the index was built with.
        MissingExtra: the engine's package is not installed.
    """
    path = Path(path)
    sweep_behind(path)
    if not path.is_dir():
        raise MissingData(f"there is no index {path}: make one with `sdar index build CORPUS --out {path}`.")
    with _damage_of(path):
        content = parse_json((path / "index.json").read_text(encoding="utf-8"))
        engine, facts = content["engine"], content["facts"]
        if content["format"] != _FORMAT or engine not in ENGINES:
            raise ValueError(f"its format is {content['format']!r} with the engine {engine!r}")
        for name, stored in content["files"].items():
            file = path / name
            if _description(file) != stored:
                raise ValueError(f"{name} is not the file that was written")
        corpus = Corpus.open(path / "corpus")
        if corpus.sha256 != content["corpus"]:
            raise ValueError("its corpus is another one")
        settings = "".join(f",{name}={value}" for name, value in sorted(facts.items()))
        fingerprint = f"{engine}{settings}:{corpus.sha256}"
        encoding = (facts["encoder"], facts["query_prefix"], facts["passage_prefix"]) if engine == "faiss" else None
    if encoding is None:
        if encoder is not None:
            raise InvalidOption(f"{path} is an index of {engine}, which takes no encoder.")
        with _damage_of(path):
            return _WORD_ENGINES[engine].open(path / "engine", corpus, fingerprint)
    if encoder is None:
        encoder = sentence_encoder(encoding[0], query_prefix=encoding[1], passage_prefix=encoding[2])
    if encoding != (encoder.name, encoder.query_prefix, encoder.passage_prefix):
        raise InvalidOption(
            f"the encoder is {encoder.name!r} with the prefixes {encoder.query_prefix!r} and "
            f"{encoder.passage_prefix!r}; {path} was built with {encoding[0]!r}, {encoding[1]!r} and "
            f"{encoding[2]!r}: give that one."
        )
    with _damage_of(path):
        return FaissRetriever.open(path / "engine", corpus, fingerprint, encoder)


@contextmanager
def _damage_of(path: Path) -> Iterator[None]:
    try:
        yield
    except (CorruptData, InvalidOption):
        raise
    except (OSError, ValueError, LookupError, TypeError, AttributeError, RuntimeError) as error:
        raise CorruptData(
            f"{path} cannot be used as an index ({type(error).__name__}: {error}): build it with `sdar index build`."
        ) from error


def bm25_over(passages: Sequence[Passage], fingerprint: str) -> Bm25Retriever:
    """Return the BM25 engine over passages in memory; its index is cached on disk.

    Args:
        passages: the corpus.
        fingerprint: identifies the corpus: letters, digits, `.`, `_` and `-`, at most 90.

    Raises:
        InvalidOption: the fingerprint is not a file name.
    """
    documents = ((place, passage.contents) for place, passage in enumerate(passages))
    index = open_or_build("search_qa", f"bm25-{fingerprint}", documents, total=len(passages))
    return Bm25Retriever(index, passages, f"bm25:{fingerprint}")


# -- building -----------------------------------------------------------------------------------


def _check_engine(engine: str, encoder: Encoder | None, factory: str | None) -> None:
    if engine not in ENGINES:
        raise UnknownName(f"no engine {engine!r}; the engines are {', '.join(ENGINES)}.{did_you_mean(engine, ENGINES)}")
    if engine == "faiss" and encoder is None:
        raise InvalidOption(
            "the engine faiss needs an encoder: name a model by --encoder, such as intfloat/e5-base-v2, or pass "
            "encoder=sentence_encoder('intfloat/e5-base-v2')."
        )
    if engine != "faiss" and not (encoder is None and factory is None):
        raise InvalidOption(f"an encoder and a factory are for the engine faiss; the engine {engine} takes none.")


def _write_manifest(folder: Path, engine: str, corpus: Corpus, facts: Mapping[str, Any]) -> None:
    """Write `index.json`, and flush it and the engine's files to disk."""
    files = [file for file in sorted((folder / "engine").rglob("*")) if file.is_file()]
    content = {
        "format": _FORMAT,
        "engine": engine,
        "corpus": corpus.sha256,
        "facts": facts,
        "files": {file.relative_to(folder).as_posix(): _description(file) for file in files},
    }
    (folder / "index.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    for file in (*files, folder / "index.json"):
        _sync(file)


def _refuse_existing(out: Path, overwrite: bool) -> None:
    if not os.path.lexists(out):
        return
    if not overwrite:
        raise InvalidOption(f"{out} exists: name another folder, or overwrite it.")
    if not (out / "index.json").is_file():
        # Not made by `build_index`, so not deleted.
        raise InvalidOption(f"{out} is not an index and will not be overwritten: name another folder.")


@contextmanager
def _workspace(out: Path, overwrite: bool) -> Iterator[Path]:
    """Give a new folder next to `out`, for this process alone; it becomes `out` at the end, or is deleted."""
    with writing_path(out) as is_locked:
        if is_locked:
            sweep(out.parent, out.name)
        _refuse_existing(out, overwrite)
        folder = hidden_name(out)
        folder.mkdir()
        try:
            yield folder
            replace_folder(folder, out)
        finally:
            shutil.rmtree(folder, ignore_errors=True)


def _description(file: Path) -> dict[str, int]:
    return {"size": file.stat().st_size, "checksum": checksum(file)}


def _sync(file: Path) -> None:
    """Flush a file to disk: not all engines do."""
    with open(file, "rb+") as stream:
        os.fsync(stream.fileno())


@contextmanager
def _bar(description: str, total: int, progress: bool) -> Iterator[Callable[[int], None]]:
    """Progress bar on a terminal; yields the function that updates it."""
    if not (progress and sys.stderr.isatty()):
        yield lambda _: None
        return
    from rich.progress import Progress  # noqa: PLC0415

    with Progress(console=console(stderr=True), transient=True) as bars:
        bar = bars.add_task(description, total=total)
        yield lambda done: bars.update(bar, completed=done)
