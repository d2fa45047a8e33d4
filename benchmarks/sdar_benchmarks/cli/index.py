"""What `sdar index` does: build an index of a corpus, and look into one. Results go to standard output."""

from __future__ import annotations

import argparse
import sys
import textwrap
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sdar_envs.errors import InvalidOption
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder, sentence_encoder
from sdar_envs.search_qa.retrieval.index import BuildReport, build_index, open_index
from sdar_envs.search_qa.retrieval.retriever import Hit

__all__ = ["index"]

_WIDTH = 100


def index(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    """Build an index or search one, as `args.index_command` says.

    Raises:
        SdarError: that cannot be done.
    """
    try:
        if args.index_command == "build":
            _build(args)
        else:
            _search(args)
    except ModuleNotFoundError as error:
        raise InvalidOption(str(error)) from error


def _build(args: argparse.Namespace) -> None:
    report = build_index(
        args.corpus,
        args.out,
        args.engine,
        encoder=_encoder(args),
        factory=args.factory,
        overwrite=args.overwrite,
    )
    for line in _lines(report):
        print(line)


def _encoder(args: argparse.Namespace) -> Encoder | None:
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
    (hits,) = open_index(Path(args.index)).search([args.query], args.k)
    if not hits:
        print("nothing found", file=sys.stderr)
    for rank, hit in enumerate(hits, 1):
        print("\n".join(_shown(rank, hit)))


def _shown(rank: int, hit: Hit) -> list[str]:
    passage = hit.passage
    lines = [f"{rank}. {_printable(passage.title)}  (id {_printable(passage.id)}, score {hit.score:.4f})"]
    for line in passage.text.splitlines():
        lines += textwrap.wrap(_printable(line), _WIDTH, initial_indent="   ", subsequent_indent="   ")
    return lines


def _printable(text: str) -> str:
    """Return the text without what could steer a terminal."""
    return "".join(character if character.isprintable() else " " for character in text)
