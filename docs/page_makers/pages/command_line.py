"""Pages of the command line, made from the parsers of `sdar`: one page for each verb."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

from page_makers.markdown import cell, code, table
from sdar_benchmarks.cli.main import make_parser

__all__ = ["actions_of", "command_pages", "verbs"]


def verbs() -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the parser and the help of each verb, in the order of `sdar --help`."""
    return actions_of(make_parser())


def actions_of(parser: argparse.ArgumentParser) -> dict[str, tuple[argparse.ArgumentParser, str]]:
    """Return the parser and the help of each command below a parser."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            helps = {choice.dest: choice.help or "" for choice in action._choices_actions}
            return {name: (found, helps.get(name, "")) for name, found in action.choices.items()}
    return {}


def command_pages() -> Iterator[tuple[str, str]]:
    """Yield the path and the Markdown of each page: an index, then a page for each verb."""
    found = verbs()
    rows = [(f"[`sdar {name}`](sdar-{name}.md)", cell(help_)) for name, (_, help_) in found.items()]
    index = (
        "# Command line\n\n`sdar` has one verb for each task. `sdar VERB --help` prints what these pages say.\n\n"
        + table(("verb", "what it does"), rows)
        + "\n\nThe exit status is 0; 1 if a check found something; 2 if a request cannot be carried out, which one "
        "line on standard error explains; 130 after Ctrl-C.\n"
    )
    yield "reference/cli/index.md", index
    for name, (parser, help_) in found.items():
        yield f"reference/cli/sdar-{name}.md", _page(name, parser, help_)


def _page(name: str, parser: argparse.ArgumentParser, help_: str) -> str:
    parts = [f"# sdar {name}\n", _sentence(help_)]
    below = actions_of(parser)
    if below:
        rows = [(f"[`{name} {action}`](#sdar-{name}-{action})", cell(text)) for action, (_, text) in below.items()]
        parts += [table(("command", "what it does"), rows), ""]
        for action, (found, text) in below.items():
            parts += [f"## sdar {name} {action}\n", _sentence(text), _body(found)]
    else:
        parts.append(_body(parser))
    return "\n".join(parts)


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}.\n" if text else ""


def _body(parser: argparse.ArgumentParser) -> str:
    parts = []
    if parser.description:
        parts.append(f"{' '.join(parser.description.split())}\n")
    parts.append(f"```text\n{_usage(parser)}\n```\n")
    for group in parser._action_groups:
        rows = [_row(action) for action in group._group_actions if action.help is not argparse.SUPPRESS]
        rows = [row for row in rows if row[0] not in ("`-h`, `--help`", "`-h, --help`")]
        if not rows:
            continue
        title = {"positional arguments": "arguments"}.get(group.title or "", group.title or "options")
        parts += [f"**{title[:1].upper()}{title[1:]}**\n"]
        if group.description:
            parts.append(f"{' '.join(group.description.split())}\n")
        parts += [table(("option", "meaning"), rows), ""]
    if parser.epilog:
        parts.append(f"{' '.join(parser.epilog.split())}\n")
    return "\n".join(parts)


def _usage(parser: argparse.ArgumentParser) -> str:
    words = " ".join(parser.format_usage().removeprefix("usage: ").split())
    return textwrap.fill(words, 76, subsequent_indent="    ", break_long_words=False, break_on_hyphens=False)


def _row(action: argparse.Action) -> tuple[str, str]:
    metavar = "" if action.nargs == 0 else _metavar(action)
    if action.option_strings:
        names = ", ".join(code(f"{name} {metavar}".strip()) for name in action.option_strings)
    else:
        names = code(metavar or action.dest)
    help_ = (action.help or "").replace("%(default)s", str(action.default)).replace("%%", "%")
    if action.default not in (None, False, argparse.SUPPRESS, [], ()) and "default" not in help_:
        help_ = f"{help_} (default: {action.default})".strip()
    return names, cell(help_)


def _metavar(action: argparse.Action) -> str:
    if isinstance(action.metavar, tuple):
        return " ".join(action.metavar)
    if action.metavar:
        return action.metavar
    if action.choices is not None:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()
