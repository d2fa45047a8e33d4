"""What went wrong in a run, or otherwise than asked, in sentences: for the terminal and for reports.

Errors by cause, answers that the token limit cut, refusals, and what a server made the client do.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sdar_benchmarks.records.runs import Episode

__all__ = ["MOST_TRUNCATED", "adaptation_lines", "error_lines", "fault_lines", "truncation_warning"]

MOST_TRUNCATED = 0.01
"""The share of truncated answers from which a run is warned about."""

_CAUSES = 5
_NUMBER = re.compile(r"\d+")


def fault_lines(config: Mapping[str, Any], attempts: Sequence[Episode], final: Sequence[Episode]) -> list[str]:
    """Return sentences about what went wrong in a run; none if nothing did.

    Args:
        config: the run's configuration.
        attempts: all attempts at episodes.
        final: those that count.
    """
    warning = truncation_warning(config, final)
    refusals = sum(episode.refusals or 0 for episode in final)
    return [
        *error_lines(attempts, final),
        *([warning] if warning else []),
        *(
            [f"The model refused to answer {_times(refusals)}; a refusal is an answer without an action."]
            * (refusals > 0)
        ),
    ]


def error_lines(attempts: Iterable[Episode], final: Iterable[Episode]) -> list[str]:
    """Return a line for each kind of error that ended an attempt, with its first message; of many kinds the first."""
    counting = {(*episode.key, episode.attempt) for episode in final}
    kinds: dict[tuple[str, str], list[Episode]] = {}
    for episode in attempts:
        if episode.error is not None:
            # Messages that differ only in numbers are of one kind.
            words = _NUMBER.sub("#", episode.error["message"])[:80]
            kinds.setdefault((episode.stop_reason, words), []).append(episode)
    lines = []
    for (reason, _), episodes in list(kinds.items())[:_CAUSES]:
        error = episodes[0].error
        assert error is not None
        left = sum((*episode.key, episode.attempt) in counting for episode in episodes)
        attempts_words = f"{len(episodes)} attempt{'s' * (len(episodes) > 1)} at episodes ended in {reason}"
        lines.append(f"{attempts_words} ({left} in the result): {error['type']}: {' '.join(error['message'].split())}")
    if len(kinds) > _CAUSES:
        lines.append(f"{len(kinds) - _CAUSES} further kinds of errors are in episodes.jsonl.")
    return lines


def truncation_warning(config: Mapping[str, Any], final: Iterable[Episode]) -> str | None:
    """Return a warning if more than `MOST_TRUNCATED` of a model's answers were cut at the token limit."""
    asked = [episode for episode in final if episode.truncated_answers is not None]
    cut = sum(episode.truncated_answers or 0 for episode in asked)
    answers = sum(episode.steps for episode in asked)
    if not cut or cut <= MOST_TRUNCATED * answers:
        return None
    limit = config["agent"]["settings"].get("max_tokens")
    known = f"token limit, {limit}" if isinstance(limit, int) else "token limit of the server"
    wanted = 4 * limit if isinstance(limit, int) else 16_384
    return (
        f"Warning: {cut} of {answers} answers ({cut / max(answers, 1):.1%}) were cut at the {known}: the numbers tell "
        f"of the limit, not only of the model. Raise it: --agent-set max_tokens={wanted}, or max_tokens=null for the "
        "server's."
    )


def adaptation_lines(adaptations: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return a line for each thing that was done otherwise than asked, as `config.json` lists them."""
    return [f"Adapted: {each['text']} ({_times(each['times'])})." for each in adaptations]


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"
