"""Share of the goals of a catalogue that can reach a score of 1.0.

    python -m sdar_envs.webshop.reachability

prints the share for the embedded catalogue. A goal counts as reachable if its own product, bought with some
clickable values of its options, scores 1.0. Whether another product would do is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product as combinations
from typing import NamedTuple, get_args

from sdar_envs.webshop.goals import Goal, Goals
from sdar_envs.webshop.reward import Quirks, matched_options, score_purchase
from sdar_envs.webshop.session import Controls
from sdar_envs.webshop.shop import Shop, open_shop

__all__ = ["Reachability", "count_reachable", "is_reachable"]


class Reachability(NamedTuple):
    """Number of goals, and the indices of those that cannot reach a score of 1.0."""

    goals: int
    unreachable: tuple[int, ...]

    @property
    def share(self) -> float:
        """The reachable share, 0 to 1."""
        return 1 - len(self.unreachable) / self.goals


def count_reachable(shop: Shop, goals: Goals, quirks: Quirks) -> Reachability:
    """Count the goals that can reach 1.0.

    Args:
        shop: the goals' shop.
        goals: synthetic or human goals.
        quirks: how purchases are scored.
    """
    controls = Controls(shop, quirks)
    unreachable = [goal.index for goal in goals if not is_reachable(controls, goal, goals.prices[goal.product.number])]
    return Reachability(len(goals), tuple(unreachable))


def is_reachable(controls: Controls, goal: Goal, price: float) -> bool:
    """Return whether buying the goal's product with the right options scores 1.0.

    Args:
        controls: the goal's shop, and how purchases are scored.
        goal: what is wanted.
        price: the hidden price of the goal's product.
    """
    options, quirks, nouns = goal.product.options, controls.quirks, controls.shop.nouns
    name_of = controls.choices(goal.product.number)
    useful: list[Sequence[tuple[str, str] | None]] = []
    for name, values in options:
        choices: dict[frozenset[int], tuple[str, str] | None] = {frozenset(): None}
        for value in values:
            if name_of.get(value) == name:
                choices.setdefault(matched_options([value], goal.options, quirks), (name, value))
        useful.append(tuple(choices.values()))
    return any(
        score_purchase(goal.product, dict(filter(None, chosen)), price, goal, nouns, quirks=quirks).score == 1.0
        for chosen in combinations(*useful)
        if len(matched_options([value for _, value in filter(None, chosen)], goal.options, quirks)) == len(goal.options)
    )


def _main() -> None:
    shop = open_shop("embedded", human=True)
    for quirks in get_args(Quirks):
        for kind in ("synthetic", "human"):
            found = count_reachable(shop, Goals(shop.catalog, kind), quirks)
            print(f"quirks={quirks}: {found.share:.2%} of {found.goals} {kind} goals can reach 1.0")


if __name__ == "__main__":
    _main()
