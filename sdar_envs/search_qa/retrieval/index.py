"""Search indexes on disk: built once from a corpus file, opened by any process.

    build_index("wiki-18.jsonl.gz", "wiki-18-index", engine="tantivy")
    retriever = open_index("wiki-18-index")

A folder holds the corpus (`corpus`), what the engine makes of it (`engine`), and `index.json`, which is written last
and names the engine and all files with their checksums. It is built under another name in the same folder, so an index
that can be opened is whole; the remains of a build that was killed are swept away by the next one. Opening compares
checksums as `sdar_envs.files.arrays` does.

A hybrid (`fuse_indexes`) is a folder with an `index.json` alone, which names the indexes whose rankings it merges.
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
from functools import partial
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
from sdar_envs.search_qa.retrieval.engines.engine import Engine
from sdar_envs.search_qa.retrieval.engines.faiss import FaissRetriever, check_settings
from sdar_envs.search_qa.retrieval.engines.hybrid import CONSTANT, DEPTH, HybridRetriever
from sdar_envs.search_qa.retrieval.engines.tantivy import TantivyRetriever
from sdar_envs.search_qa.retrieval.retriever import Passage

__all__ = ["ENGINES", "BuildReport", "bm25_over", "build_index", "fuse_indexes", "open_index"]

ENGINES = ("bm25", "bm25s", "tantivy", "faiss")
"""The engines that an index on disk can have."""

_FORMAT = 1
_HYBRID = "hybrid"


class _WordEngine(Protocol):
    """An engine that needs nothing but the passages."""

    def build(self, passages: Sequence[Passage], path: Path, progress: Callable[[int], None]) -> dict[str, Any]: ...
    def open(self, path: Path, passages: Sequence[Passage], fingerprint: str) -> Engine: ...


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
    vectors: str | Path | None = None,
    faiss_index: str | Path | None = None,
    link: bool = False,
    nprobe: int | None = None,
    ef_search: int | None = None,
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
        vectors: a `.npy` file with the vectors of the passages, for `faiss`; see `engines.vectors`. It is not copied.
        faiss_index: a file that faiss has written, of this corpus, which is taken over instead of building one.
        link: make a hard link to that file instead of a copy.
        nprobe: how many cells of an IVF index a query looks into, if `open_index` does not say; by default 64.
        ef_search: how many neighbours an HNSW index keeps in sight, likewise; by default what faiss does.
        overwrite: replace the folder if it exists.
        progress: show bars on standard error if that is a terminal.

    Raises:
        UnknownName: there is no such engine.
        InvalidOption: the folder exists, another process builds it, or an option does not fit the engine.
        MissingData: there is no such corpus or file.
        CorruptData: a line of it is not a passage, two have the same id, or a file for `faiss` cannot be used.
        MissingExtra: the engine's package is not installed.
        OSError: the folder cannot be written.
    """
    source, out = Path(source), Path(os.path.abspath(out))
    _check_engine(
        engine,
        encoder,
        {
            "factory": factory,
            "vectors": vectors,
            "faiss_index": faiss_index,
            "link": link or None,
            "nprobe": nprobe,
            "ef_search": ef_search,
        },
    )
    settings = check_settings(nprobe=nprobe, ef_search=ef_search)
    for file in (vectors, faiss_index):
        if file is not None and not Path(file).is_file():
            raise MissingData(f"there is no file {file}.")
    if not source.is_file():
        raise MissingData(f"there is no corpus {source}.")
    _refuse_existing(out, overwrite)
    started, started_cpu = time.perf_counter(), time.process_time()
    with _workspace(out, overwrite) as folder:
        with _bar(f"Reading {source.name}", source.stat().st_size, progress) as report:
            corpus = import_corpus(source, folder / "corpus", report)
        imported, imported_cpu = time.perf_counter(), time.process_time()
        with _bar(f"Indexing with {engine}", len(corpus), progress) as report:
            if encoder is None:
                facts = _WORD_ENGINES[engine].build(corpus, folder / "engine", report)
            elif faiss_index is not None:
                facts = FaissRetriever.take_over(
                    corpus, folder / "engine", encoder=encoder, source=Path(faiss_index), link=link
                )
            else:
                facts = FaissRetriever.build(
                    corpus,
                    folder / "engine",
                    report,
                    encoder=encoder,
                    factory="Flat" if factory is None else factory,
                    vectors=None if vectors is None else Path(vectors),
                )
        facts = {**facts, **settings}
        if settings and encoder is not None:
            # Refused now rather than by whoever opens the index.
            FaissRetriever.open(folder / "engine", corpus, "", encoder, nprobe=nprobe, ef_search=ef_search)
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


def open_index(
    path: str | Path, *, encoder: Encoder | None = None, nprobe: int | None = None, ef_search: int | None = None
) -> Engine:
    """Open an index that `build_index` or `fuse_indexes` made.

    Args:
        path: the folder.
        encoder: makes the vectors of queries for an index of `faiss`; by default the sentence-transformers model with
            the name that the index remembers.
        nprobe: how many cells of an IVF index a query looks into; by default what the index was built with.
        ef_search: how many neighbours an HNSW index keeps in sight; likewise.

    Raises:
        MissingData: there is no such folder.
        CorruptData: it is not an index, damaged, or of another version of this package.
        InvalidOption: the encoder is not the one that the index was built with, or an option is for another engine.
        MissingExtra: the engine's package is not installed.
    """
    path = Path(path)
    settings = check_settings(nprobe=nprobe, ef_search=ef_search)
    sweep_behind(path)
    if not path.is_dir():
        raise MissingData(f"there is no index {path}: make one with `sdar index build CORPUS --out {path}`.")
    with _damage_of(path):
        content = parse_json((path / "index.json").read_text(encoding="utf-8"))
        engine, facts = content["engine"], content["facts"]
        if content["format"] != _FORMAT or engine not in (*ENGINES, _HYBRID):
            raise ValueError(f"its format is {content['format']!r} with the engine {engine!r}")
    if engine == _HYBRID:
        return _open_hybrid(path, content, encoder, settings)
    with _damage_of(path):
        for name, stored in content["files"].items():
            file = path / name
            if _description(file) != stored:
                raise ValueError(f"{name} is not the file that was written")
        corpus = Corpus.open(path / "corpus")
        if corpus.sha256 != content["corpus"]:
            raise ValueError("its corpus is another one")
        facts = {**facts, **settings}
        fingerprint = f"{engine}{_told(facts)}:{corpus.sha256}"
        encoding = (facts["encoder"], facts["query_prefix"], facts["passage_prefix"]) if engine == "faiss" else None
    if encoding is None:
        if encoder is not None:
            raise InvalidOption(f"{path} is an index of {engine}, which takes no encoder.")
        if settings:
            raise InvalidOption(f"{path} is an index of {engine}, which takes no {' and no '.join(settings)}.")
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
        return FaissRetriever.open(
            path / "engine",
            corpus,
            fingerprint,
            encoder,
            nprobe=facts.get("nprobe"),
            ef_search=facts.get("ef_search"),
        )


def _told(facts: Mapping[str, Any]) -> str:
    return "".join(f",{name}={value}" for name, value in sorted(facts.items()))


# -- hybrids ------------------------------------------------------------------------------------


def fuse_indexes(
    parts: Sequence[str | Path],
    out: str | Path,
    *,
    constant: int = CONSTANT,
    depth: int = DEPTH,
    encoder: Encoder | None = None,
    overwrite: bool = False,
) -> Engine:
    """Make an index that merges the rankings of others by their reciprocal ranks, and open it.

    The folder names the others by paths relative to it; nothing is copied, so keep them where they are.

    Args:
        parts: two or more folders of indexes of the same corpus, such as BM25's and faiss's.
        out: the new folder.
        constant: see `engines.hybrid`.
        depth: likewise.
        encoder: see `open_index`.
        overwrite: replace the folder if it exists.

    Raises:
        InvalidOption: the folder exists, the indexes are of different corpora, or a number is out of range.
        MissingData: an index is not there.
        CorruptData: an index is damaged.
        OSError: the folder cannot be written.
    """
    out = Path(os.path.abspath(out))
    _refuse_existing(out, overwrite)
    folders = [os.path.relpath(os.path.abspath(part), out) for part in parts]
    content = {
        "format": _FORMAT,
        "engine": _HYBRID,
        "corpus": "",
        "facts": {"constant": constant, "depth": depth, "parts": folders},
        "files": {},
    }
    opened = _open_hybrid(out, content, encoder, {})
    content["corpus"] = _sha256_of(opened)
    with _workspace(out, overwrite) as folder:
        (folder / "index.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
        _sync(folder / "index.json")
    return opened


def _open_hybrid(
    path: Path, content: Mapping[str, Any], encoder: Encoder | None, settings: Mapping[str, int]
) -> HybridRetriever:
    with _damage_of(path):
        facts = content["facts"]
        folders = [Path(os.path.normpath(path / part)) for part in facts["parts"]]
        constant, depth = facts["constant"], facts["depth"]
    for folder in folders:
        if not (folder / "index.json").is_file():
            raise MissingData(f"there is no index {folder}, which {path} merges: make it with `sdar index build`.")
    with _damage_of(path):
        engines = [parse_json((folder / "index.json").read_text(encoding="utf-8"))["engine"] for folder in folders]
    if "faiss" not in engines and (encoder is not None or settings):
        raise InvalidOption(f"{path} has no index of faiss, which alone takes an encoder, nprobe or ef_search.")
    parts = [
        open_index(folder, encoder=encoder, **settings) if engine == "faiss" else open_index(folder)
        for folder, engine in zip(folders, engines, strict=True)
    ]
    corpora = {_sha256_of(part) for part in parts}
    if len(corpora) > 1:
        raise InvalidOption(
            f"the indexes {', '.join(map(str, folders))} are of different corpora: build them of the same file."
        )
    if content["corpus"] and corpora != {content["corpus"]}:
        raise CorruptData(f"the indexes of {path} have been replaced by those of another corpus: fuse them again.")
    names = "+".join(part.fingerprint.rpartition(":")[0] for part in parts)
    hybrid = HybridRetriever(
        parts,
        parts[0].passages if parts else (),
        f"{_HYBRID},constant={constant},depth={depth}({names}):{''.join(corpora)}",
        constant=constant,
        depth=depth,
    )
    return hybrid.opened_by(partial(_open_hybrid, path, content, encoder, settings))


def _sha256_of(engine: Engine) -> str:
    return engine.fingerprint.rpartition(":")[2]


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


def _check_engine(engine: str, encoder: Encoder | None, options: Mapping[str, Any]) -> None:
    """Validate what is told about an engine; `options` are those of faiss, None where not given."""
    if engine not in ENGINES:
        raise UnknownName(f"no engine {engine!r}; the engines are {', '.join(ENGINES)}.{did_you_mean(engine, ENGINES)}")
    if engine == "faiss" and encoder is None:
        raise InvalidOption(
            "the engine faiss needs an encoder: name a model by --encoder, such as intfloat/e5-base-v2, or pass "
            "encoder=sentence_encoder('intfloat/e5-base-v2')."
        )
    given = [name for name, value in options.items() if value is not None]
    if engine != "faiss" and (encoder is not None or given):
        told = f" ({', '.join(given)})" if set(given) - {"factory"} else ""
        raise InvalidOption(f"an encoder and a factory{told} are for the engine faiss; the engine {engine} takes none.")
    if "faiss_index" in given and {"factory", "vectors"} & set(given):
        raise InvalidOption("faiss_index is an index that is there already: leave out factory and vectors.")
    if "link" in given and "faiss_index" not in given:
        raise InvalidOption("link is for an index that is there already: name it by faiss_index, or leave out link.")


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
