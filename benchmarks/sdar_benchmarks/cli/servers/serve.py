"""`sdar serve`: the shop as a web site, a retrieval server for Search-QA, or environments for OpenEnv's clients."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Callable
from contextlib import ExitStack, suppress
from functools import partial
from typing import TYPE_CHECKING

from sdar_benchmarks.cli.data.index import add_settings
from sdar_benchmarks.cli.options import (
    Commands,
    add_address,
    add_environment,
    add_shop,
    add_token,
    environment_arguments,
)
from sdar_benchmarks.cli.output import say

if TYPE_CHECKING:
    from sdar_envs.search_qa.retrieval.retriever import Retriever

__all__ = ["add"]


def add(commands: Commands) -> None:
    """Add `sdar serve` and its servers."""
    command = commands.add_parser(
        "serve", help="start a server: the WebShop site, a retrieval server for Search-QA, or OpenEnv's of environments"
    )
    servers = command.add_subparsers(dest="server", required=True, metavar="SERVER")

    command = servers.add_parser("webshop", help="the shop of sdar/WebShop-v0 as a web site")
    add_address(command, port=3000)
    add_token(command)
    add_shop(command)
    command.set_defaults(run=_webshop)

    command = servers.add_parser("retriever", help="POST /retrieve, for clients of Search-R1, verl, SDAR, verl-agent")
    add_address(command, port=8000)
    add_token(command)
    command.add_argument(
        "--index", metavar="DIR", help="made by `sdar index build` or `sdar index fuse` (default: the embedded facts)"
    )
    command.add_argument("--corpus", metavar="FILE", help="build the index of this corpus if it is not there yet")
    command.add_argument(
        "--engine", metavar="NAME", help="engine of the index: the one to build it with, or the one that it must have"
    )
    command.add_argument(
        "--workers", type=int, default=1, metavar="N", help="processes that search, sharing the index (default: 1)"
    )
    add_settings(command)
    command.add_argument(
        "--topk",
        type=int,
        default=3,
        metavar="N",
        help="passages per query, unless the request says (default: %(default)s)",
    )
    command.set_defaults(run=_retriever)

    command = servers.add_parser("openenv", help="environments for clients of OpenEnv, many at a time")
    add_address(command, port=8000)
    add_token(command)
    command.add_argument(
        "--sessions", type=int, default=64, metavar="N", help="clients at a time (default: %(default)s)"
    )
    command.add_argument(
        "--mode", default="windowed", metavar="NAME", help="prompts: windowed or appended (default: %(default)s)"
    )
    add_environment(command)
    command.set_defaults(run=_openenv)


def _webshop(args: argparse.Namespace) -> None:
    from sdar_envs.http.serving import serve
    from sdar_envs.registry import make_text_env
    from sdar_envs.webshop.env import WebShopEnv
    from sdar_envs.webshop.site.site import LONGEST_HEAD, create_app

    given = environment_arguments(args)
    # All splits are served; this one exists however few goals there are.
    env = make_text_env("sdar/WebShop-v0", **{"split": "test", **given})
    assert isinstance(env, WebShopEnv)
    shown = {name: given[name] for name in ("thefuzz", "show_attributes") if name in given}
    app = create_app(env.shop, env.source, quirks=env.quirks, **shown)
    _until_interrupted(
        "WebShop",
        lambda ready: serve(
            app,
            host=args.host,
            port=args.port,
            longest_head=LONGEST_HEAD,
            token_env=args.token_env,
            ready=ready,
        ),
    )


def _retriever(args: argparse.Namespace) -> None:
    from sdar_envs.errors import InvalidOption
    from sdar_envs.search_qa.retrieval.parallel import ParallelRetriever
    from sdar_envs.search_qa.retrieval.server import serve_retriever

    opening = _opening(args)
    with ExitStack() as stack:
        retriever = opening() if args.workers == 1 else stack.enter_context(ParallelRetriever(opening, args.workers))
        # The fingerprint begins with the engine.
        engine = re.split("[,:]", retriever.fingerprint)[0]
        if args.engine not in (None, engine):
            raise InvalidOption(
                f"{args.index} is an index of {engine}, not of {args.engine}: leave out --engine, or build another one."
            )
        _until_interrupted(
            "Retriever",
            lambda ready: serve_retriever(
                retriever, host=args.host, port=args.port, topk=args.topk, token_env=args.token_env, ready=ready
            ),
        )


def _opening(args: argparse.Namespace) -> Callable[[], Retriever]:
    """Return what opens the index that is asked for; build it first if it is not there and its corpus is given."""
    from sdar_envs.errors import InvalidOption
    from sdar_envs.search_qa.embedded import embedded_retriever
    from sdar_envs.search_qa.retrieval.index import build_index, open_index

    if args.index is None:
        for name in ("corpus", "engine", "nprobe", "ef_search"):
            if getattr(args, name) is not None:
                option = name.replace("_", "-")
                raise InvalidOption(f"--{option} is for an index of your own: name its folder by --index.")
        return embedded_retriever
    if args.corpus is not None and not os.path.lexists(args.index):
        if args.engine == "faiss":
            raise InvalidOption(
                "an index of faiss needs an encoder: build it with `sdar index build --engine faiss`, then leave out "
                "--corpus."
            )
        report = build_index(args.corpus, args.index, args.engine or "bm25")
        say(f"{report.path}: {report.passages:,} passages indexed", error=True)
    return partial(open_index, args.index, nprobe=args.nprobe, ef_search=args.ef_search)


def _openenv(args: argparse.Namespace) -> None:
    from sdar_envs.http.serving import serve
    from sdar_envs.integrations.openenv import make_app

    app = make_app(args.env_id, sessions=args.sessions, mode=args.mode, **environment_arguments(args))
    _until_interrupted(
        "OpenEnv server",
        lambda ready: serve(
            app, host=args.host, port=args.port, token_env=args.token_env, ready=ready, websockets=True
        ),
    )


def _until_interrupted(name: str, start: Callable[[Callable[[str], object]], None]) -> None:
    # To interrupt it is the only way to stop the server, and no failure. Where the shell ignores the signal, as in
    # background jobs, the server ends without the exception.
    with suppress(KeyboardInterrupt):
        start(lambda address: say(f"{name} at {address} (Ctrl-C stops it)"))
    say("stopped", error=True)
