"""`sdar index`: build a search index of a corpus, and search one."""

from __future__ import annotations

import argparse
import textwrap
from pathlib import Path
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.options import Commands
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
    from sdar_envs.search_qa.retrieval.index import BuildReport
    from sdar_envs.search_qa.retrieval.retriever import Hit

__all__ = ["add"]


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
    group.add_argument("--encoder", metavar="NAME", help="model of sentence-transformers, such as intfloat/e5-base-v2")
    group.add_argument("--query-prefix", default="query: ", metavar="TEXT", help="prefix of queries (default: E5's)")
    group.add_argument(
        "--passage-prefix", default="passage: ", metavar="TEXT", help="prefix of passages (default: E5's)"
    )
    group.add_argument("--factory", metavar="NAME", help="kind of index, such as IVF4096,SQ8 (default: Flat)")
    build.set_defaults(run=_build)

    search = actions.add_parser("search", help="print the best passages for a query")
    search.add_argument("index", metavar="DIR", help="folder of an index, made by `sdar index build`")
    search.add_argument("query", metavar="QUERY", help="any text")
    search.add_argument("-k", type=int, default=3, metavar="N", help="how many passages (default: %(default)s)")
    search.set_defaults(run=_search)


def _build(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.index import build_index

    report = build_index(
        args.corpus,
        args.out,
        args.engine,
        encoder=_encoder(args),
        factory=args.factory,
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


def _search(args: argparse.Namespace) -> None:
    from sdar_envs.search_qa.retrieval.index import open_index

    (hits,) = open_index(Path(args.index)).search([args.query], args.k)
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
