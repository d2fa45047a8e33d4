"""What `sdar demos` and `sdar sft` do: demonstrations, and a model that is fine-tuned on them."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sdar_agents.sft.demonstrations import DemonstrationSettings, demonstrate, row_line
from sdar_benchmarks.evaluation.arguments import make_env
from sdar_envs.errors import InvalidOption, UnknownName, did_you_mean
from sdar_envs.storage import write_atomic

__all__ = ["demos_command", "sft_command"]


def demos_command(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    """Write demonstrations.

    Raises:
        SdarError: that cannot be done.
    """
    path = Path(args.out)
    if path.is_dir():
        raise InvalidOption(f"{path} is a folder: name a file in it.")
    if path.exists() and not args.overwrite:
        raise InvalidOption(f"{path} exists: choose another file, or pass --overwrite.")
    rest = {name: value for name, value in env_kwargs.items() if name != "split"}
    names = [field.name for field in dataclasses.fields(DemonstrationSettings)]
    given = {name: getattr(args, name) for name in names if getattr(args, name, None) is not None}
    settings = DemonstrationSettings(env_kwargs=rest, **{"split": env_kwargs.get("split", "train"), **given})
    make_env(settings.env_id, {**rest, "split": settings.split})  # refuses misspelt arguments by name
    counts = {"episodes": 0, "rows": 0, "lost": 0}
    with _progress() as progress:
        bar = progress.add_task("demonstrations", total=settings.episodes)

        def lines() -> Iterator[str]:
            for rows in demonstrate(settings):
                counts["episodes"] += 1
                counts["rows"] += len(rows)
                counts["lost"] += not rows
                progress.advance(bar)
                yield from map(row_line, rows)

        write_atomic(path, lines())
    lost = f", {counts['lost']} lost episodes left out" if counts["lost"] else ""
    print(f"{path}: {counts['rows']} rows of {counts['episodes']} episodes{lost}")


def sft_command(args: argparse.Namespace, env_kwargs: Mapping[str, Any]) -> None:
    """Fine-tune a model on demonstrations.

    Raises:
        SdarError: that cannot be done.
    """
    try:
        model = _fine_tuned(args)
    except ModuleNotFoundError as error:
        raise InvalidOption(
            f"{error.name} is not installed, and fine-tuning needs it: pip install 'sdar-envs[train]'"
        ) from error
    print(model)


def _fine_tuned(args: argparse.Namespace) -> Path:
    # Here, so that nobody who only plays waits for torch.
    from sdar_agents.sft.warm_start import default_settings, warm_start  # noqa: PLC0415

    settings = default_settings(args.model)
    names = [field.name for field in dataclasses.fields(settings)]
    for name, _ in args.sft_settings:
        if name not in names:
            raise UnknownName(f"no setting {name!r}; the settings are {', '.join(names)}.{did_you_mean(name, names)}")
    settings = dataclasses.replace(settings, **dict(args.sft_settings))
    with _progress(TextColumn("{task.fields[measures]}")) as progress:
        bar = progress.add_task("sft", total=None, measures="")

        def log(measures: Mapping[str, float]) -> None:
            text = (
                f"loss {measures['loss']:.3f}  accuracy {measures['accuracy']:.1%}  "
                f"{measures['tokens_per_second']:,.0f} tokens/s"
            )
            progress.update(bar, completed=measures["step"], total=measures["steps"], measures=text)

        return warm_start(
            args.model,
            [Path(name) for name in args.demos],
            Path(args.out),
            settings,
            device=args.device,
            validation=[Path(name) for name in args.validation],
            resume=args.resume,
            log=log,
        )


def _progress(*columns: TextColumn) -> Progress:
    stderr = Console(stderr=True)
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        *columns,
        console=stderr,
        transient=True,
        disable=not stderr.is_terminal,
    )
