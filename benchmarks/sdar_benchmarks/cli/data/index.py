"""`sdar index`: build a search index of a corpus, search it, and check it; encode a corpus; merge rankings."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
    from sdar_envs.search_qa.retrieval.engines.engine import Engine
    from sdar_envs.search_qa.retrieval.index import BuildReport
    from sdar_envs.search_qa.retrieval.retriever import Hit

__all__ = ["add", "add_settings"]

_TITLES = 200  # queries of a check


def add(commands: Commands) -> None:
    """Add `sdar index` and its actions."""
    command = commands.add_parser("index", help="build a search index of a corpus, and search it")
    actions = command.add_subparsers(dest="index_command", required=True, metavar="COMMAND")

    build = actions.add_parser("build", help="index a corpus file into a new folder")
    build.add_argument(
        "corpus", metavar="CORPUS", help="JSON Lines with id and contents, or id, title and text; or .gz"
    )
    build.add_argument(
        "--out", required=True, metavar="DIR", help="new folder of the index; it appears when the index is complete"
    )
    build.add_argument(
        "--engine", default="bm25", metavar="NAME", help="bm25, bm25s, tantivy or faiss (default: %(default)s)"
    )
    build.add_argument("--overwrite", action="store_true", help="replace the index if it exists")
    group = build.add_argument_group("faiss")
    _add_encoder(group)
    group.add_argument("--factory", metavar="NAME", help="kind of index, such as IVF4096,SQ8 (default: Flat)")
    group.add_argument(
        "--vectors", metavar="FILE", help=".npy file with the passages' vectors, from `sdar index encode` or elsewhere"
    )
    group.add_argument(
        "--faiss-index", metavar="FILE", help="index that faiss has written of this corpus, such as e5_Flat.index"
    )
    group.add_argument("--link", action="store_true", help="make a hard link to that index instead of a copy")
    add_settings(group)
    build.set_defaults(run=_build)

    encode = actions.add_parser(
        "encode", help="write the vectors of a corpus to a .npy file; goes on if it was stopped"
    )
    encode.add_argument("corpus", metavar="CORPUS", help="as for `sdar index build`")
    encode.add_argument("--out", required=True, metavar="FILE", help="new .npy file; it appears when it is complete")
    _add_encoder(encode, required=True)
    encode.add_argument("--dtype", default="float16", metavar="NAME", help="float16 or float32 (default: %(default)s)")
    encode.set_defaults(run=_encode)

    fuse = actions.add_parser("fuse", help="merge the rankings of several indexes of one corpus (reciprocal ranks)")
    fuse.add_argument("indexes", nargs="+", metavar="DIR", help="folders of indexes, such as one of BM25, one of faiss")
    fuse.add_argument("--out", required=True, metavar="DIR", help="new folder, which names the others")
    fuse.add_argument(
        "--constant", type=int, default=60, metavar="N", help="a passage gets 1 / (N + rank) (default: %(default)s)"
    )
    fuse.add_argument(
        "--depth", type=int, default=100, metavar="N", help="passages of each ranking that count (default: %(default)s)"
    )
    fuse.add_argument("--overwrite", action="store_true", help="replace the index if it exists")
    fuse.set_defaults(run=_fuse)

    check = actions.add_parser("check", help="open an index, and measure what an approximate one misses (recall)")
    check.add_argument("index", metavar="DIR", help="folder of an index")
    check.add_argument(
        "--against", metavar="PATH", help="exact vectors: a .npy file, or the folder of an index with the factory Flat"
    )
    check.add_argument("--queries", metavar="FILE", help="a query on each line (default: 200 titles of passages)")
    check.add_argument("-k", type=int, default=10, metavar="N", help="how many passages (default: %(default)s)")
    check.add_argument(
        "--nprobe", type=int, nargs="+", metavar="N", help="cells to look into, for IVF; several to compare"
    )
    check.add_argument("--ef-search", type=int, nargs="+", metavar="N", help="neighbours in sight, for HNSW; likewise")
    check.set_defaults(run=_check)

    search = actions.add_parser("search", help="print the best passages for a query")
    search.add_argument("index", metavar="DIR", help="folder of an index, made by `sdar index build`")
    search.add_argument("query", metavar="QUERY", help="any text")
    search.add_argument("-k", type=int, default=3, metavar="N", help="how many passages (default: %(default)s)")
    add_settings(search)
    search.set_defaults(run=_search)


def _add_encoder(group: argparse._ActionsContainer, *, required: bool = False) -> None:
    group.add_argument(
        "--encoder",
        required=required,
        metavar="NAME",
        help="model of sentence-transformers, such as intfloat/e5-base-v2",
    )
    group.add_argument("--query-prefix", default="query: ", metavar="TEXT", help="prefix of queries (default: E5's)")
    group.add_argument(
        "--passage-prefix", default="passage: ", metavar="TEXT", help="prefix of passages (default: E5's)"
    )


def add_settings(group: argparse._ActionsContainer) -> None:
    """Add the options of a search with faiss: `--nprobe` and `--ef-search`."""
    group.add_argument("--nprobe", type=int, metavar="N", help="cells of an IVF index to look into (default: 64)")
    group.add_argument("--ef-search", type=int, metavar="N", help="neighbours that an HNSW index keeps in sight")


def _build(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.index import build_index

    report = build_index(
        args.corpus,
        args.out,
        args.engine,
        encoder=_encoder(args),
        factory=args.factory,
        vectors=args.vectors,
        faiss_index=args.faiss_index,
        link=args.link,
        nprobe=args.nprobe,
        ef_search=args.ef_search,
        overwrite=args.overwrite,
    )
    for line in _lines(report):
        say(line)


def _encoder(args: argparse.Namespace) -> Encoder | None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.search_qa.retrieval.engines.encoder import sentence_encoder

    if args.encoder is None:
        return None
    try:
        return sentence_encoder(args.encoder, query_prefix=args.query_prefix, passage_prefix=args.passage_prefix)
    except (OSError, ValueError) as error:
        raise InvalidOption(f"the encoder {args.encoder!r} cannot be loaded ({error})") from error


def _lines(report: BuildReport) -> list[str]:
    return [
        f"{report.path}: {report.passages:,} passages, engine {report.engine}",
        f"  corpus {_size(report.corpus_bytes)}, read in {report.corpus_seconds:,.1f} s "
        f"({report.corpus_cpu_seconds:,.1f} CPU s)",
        f"  index built in {report.engine_seconds:,.1f} s ({report.engine_cpu_seconds:,.1f} CPU s): "
        f"{report.passages / report.engine_seconds:,.0f} passages per second",
        f"  {_size(report.disk_bytes)} on disk, the corpus included",
    ]


def _size(count: int) -> str:
    return f"{count / 1e9:,.2f} GB" if count >= 1e9 else f"{count / 1e6:,.2f} MB"


def _encode(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.engines.vectors import encode_corpus
    from sdar_envs.storage import ProgressLines

    encoder = _encoder(args)
    assert encoder is not None
    lines = ProgressLines("passages encoded")
    count = encode_corpus(
        args.corpus, args.out, encoder, dtype=args.dtype, progress=lambda done: lines.update(done, None)
    )
    say(f"{args.out}: vectors of {count:,} passages by {encoder.name}")


def _fuse(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.index import fuse_indexes

    opened = fuse_indexes(args.indexes, args.out, constant=args.constant, depth=args.depth, overwrite=args.overwrite)
    say(f"{args.out}: {opened.passage_count:,} passages, {len(args.indexes)} rankings merged")


def _check(args: argparse.Namespace) -> None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.search_qa.retrieval.engines.faiss import FaissRetriever
    from sdar_envs.search_qa.retrieval.engines.vectors import open_vectors
    from sdar_envs.search_qa.retrieval.index import open_index
    from sdar_envs.search_qa.retrieval.recall import measure_recall

    if args.nprobe and args.ef_search:
        raise InvalidOption("an index has cells (--nprobe) or a graph (--ef-search), not both: give one of them.")
    if args.against is None and (args.nprobe or args.ef_search or args.queries):
        raise InvalidOption("recall needs exact vectors to compare with: name them by --against.")
    retriever = open_index(args.index)
    say(f"{args.index}: {retriever.passage_count:,} passages, the files are whole")
    if args.against is None:
        return
    if not isinstance(retriever, FaissRetriever):
        raise InvalidOption(f"{args.index} is not an index of faiss, which alone misses neighbours: drop --against.")
    encoder = retriever.encoder
    exact: FaissRetriever | NDArray[Any]
    if Path(args.against).is_dir():
        flat = open_index(args.against, encoder=encoder)
        if not isinstance(flat, FaissRetriever):
            raise InvalidOption(f"{args.against} is a hybrid: give an index with the factory Flat, or a .npy file.")
        exact = flat
    else:
        exact = open_vectors(args.against)
    queries = _queries(args.queries, retriever)
    name = "ef_search" if args.ef_search else "nprobe"
    for value in args.ef_search or args.nprobe or (None,):
        opened = retriever if value is None else open_index(args.index, encoder=encoder, **{name: value})
        report = measure_recall(opened, queries, args.k, exact)
        told = "" if value is None else f"{name} {value}: "
        say(
            f"  {told}recall@{report.k} {report.recall:.4f} over {report.queries:,} queries, "
            f"{1e3 * report.seconds:,.2f} ms a query"
        )


def _queries(path: str | None, retriever: Engine) -> list[str]:
    from sdar_envs.errors import InvalidOption, MissingData

    if path is None:
        count = min(_TITLES, retriever.passage_count)
        return [retriever.passages[retriever.passage_count * i // count].title for i in range(count)]
    try:
        return Path(path).read_text(encoding="utf-8").splitlines()
    except FileNotFoundError as error:
        raise MissingData(f"there is no file of queries {path}.") from error
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidOption(f"{path} cannot be read as queries, one a line in UTF-8 ({error}).") from error


def _search(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.index import open_index

    retriever = open_index(Path(args.index), nprobe=args.nprobe, ef_search=args.ef_search)
    (hits,) = retriever.search([args.query], args.k)
    if not hits:
        say("nothing found", error=True)
    for rank, hit in enumerate(hits, 1):
        say("\n".join(_shown(rank, hit)))


def _shown(rank: int, hit: Hit) -> list[str]:
    from sdar_envs.printing import printable

    passage = hit.passage
    lines = [f"{rank}. {printable(passage.title)}  (id {printable(passage.id)}, score {hit.score:.4f})"]
    for line in passage.text.splitlines():
        lines += textwrap.wrap(printable(line), 100, initial_indent="   ", subsequent_indent="   ")
    return lines
