"""Limits on retrieved skills: how many, and how many tokens their texts may take together."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from sdar_envs.core import is_integer
from sdar_envs.errors import InvalidOption
from sdar_skills.library.skill import Retrieved

__all__ = ["TokenCounter", "check_limits", "fit_budget"]

TokenCounter = Callable[[str], int]
"""Returns the number of tokens in a text, by the tokenizer of the model that will read it."""


def check_limits(k: int, token_budget: int | None, count_tokens: TokenCounter | None) -> None:
    """Check the limits that `Retriever.retrieve` is given.

    Raises:
        InvalidOption: a limit is negative, or there is a token budget without a token counter.
    """
    if not is_integer(k) or k < 0:
        raise InvalidOption(f"k is {k!r}; wanted the greatest number of skills, a whole number from 0.")
    if token_budget is None:
        return
    if not is_integer(token_budget) or token_budget < 0:
        raise InvalidOption(f"token_budget is {token_budget!r}; wanted None or a number of tokens from 0.")
    if count_tokens is None:
        raise InvalidOption(
            f"token_budget is {token_budget}, but the retriever has no token counter: make it with count_tokens=, "
            "such as lambda text: len(tokenizer.encode(text))."
        )


def fit_budget(
    ranked: Iterable[Retrieved], k: int, token_budget: int | None, count_tokens: TokenCounter | None
) -> tuple[Retrieved, ...]:
    """Return the first `k` skills that fit a token budget together; one that does not fit is left out whole.

    Args:
        ranked: skills, best first.
        k: greatest number of skills.
        token_budget: tokens that their texts may take together; None is no limit.
        count_tokens: counts the tokens of a text; needed for a budget.
    """
    chosen: list[Retrieved] = []
    left = token_budget
    for retrieved in ranked:
        if len(chosen) == k:
            break
        if left is not None and count_tokens is not None:
            tokens = count_tokens(retrieved.skill.text)
            if tokens > left:
                continue
            left -= tokens
        chosen.append(retrieved)
    return tuple(chosen)
