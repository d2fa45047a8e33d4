"""Share of the goals of a catalogue that can reach a score of 1.0.

    python -m sdar_envs.webshop.reachability --data official --data-dir DIR

prints the share; without arguments that of the embedded catalogue. A goal counts as reachable if its own product,
bought with some clickable values of its options, scores 1.0. Whether another product would do is not asked.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from itertools import product as combinations
from typing import Literal, NamedTuple, get_args

from sdar_envs.errors import SdarError
from sdar_envs.webshop.catalog.loading import CatalogFiles
from sdar_envs.webshop.goals import Goal, Goals
from sdar_envs.webshop.reward import Quirks, TheFuzz, matched_options, score_purchase
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


def count_reachable(shop: Shop, goals: Goals, quirks: Quirks, thefuzz: TheFuzz = "0.22") -> Reachability:
    """Count the goals that can reach 1.0.

    Args:
        shop: the goals' shop.
        goals: synthetic or human goals.
        quirks: how purchases are scored.
        thefuzz: how texts are compared.
    """
    controls = Controls(shop, quirks, thefuzz=thefuzz)
    unreachable = [goal.index for goal in goals if not is_reachable(controls, goal, goals.prices[goal.product.number])]
    return Reachability(len(goals), tuple(unreachable))


def is_reachable(controls: Controls, goal: Goal, price: float) -> bool:
    """Return whether buying the goal's product with the right options scores 1.0.

    Args:
        controls: the goal's shop, and how purchases are scored.
        goal: what is wanted.
        price: the hidden price of the goal's product.
    """
    options, nouns = goal.product.options, controls.shop.nouns
    quirks, thefuzz = controls.quirks, controls.thefuzz
    name_of = controls.choices(goal.product.number)
    useful: list[Sequence[tuple[str, str] | None]] = []
    for name, values in options:
        choices: dict[frozenset[int], tuple[str, str] | None] = {frozenset(): None}
        for value in values:
            if name_of.get(value) == name:
                choices.setdefault(matched_options([value], goal.options, quirks, thefuzz), (name, value))
        useful.append(tuple(choices.values()))
    return any(
        score_purchase(
            goal.product, dict(filter(None, chosen)), price, goal, nouns, quirks=quirks, thefuzz=thefuzz
        ).score
        == 1.0
        for chosen in combinations(*useful)
        if len(matched_options([value for _, value in filter(None, chosen)], goal.options, quirks, thefuzz))
        == len(goal.options)
    )


def _main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(
        prog="python -m sdar_envs.webshop.reachability", description="Share of the goals that can reach a score of 1.0."
    )
    parser.add_argument("--data", default="embedded", choices=["embedded", "official"], help="default: %(default)s")
    parser.add_argument("--data-dir", metavar="DIR", help="folder of the official data (default: $WEBSHOP_DATA)")
    parser.add_argument("--goals", choices=["synthetic", "human"], help="default: both, human where there are some")
    parser.add_argument("--quirks", choices=get_args(Quirks), help="default: both")
    parser.add_argument("--thefuzz", default="0.22", choices=get_args(TheFuzz), help="default: %(default)s")
    parser.add_argument("--num-products", type=int, metavar="N", help="only the first N records (default: all)")
    parser.add_argument("--name", action="store_true", help="print the indices of the goals that cannot")
    args = parser.parse_args(arguments)
    try:
        files = CatalogFiles.find(args.data_dir) if args.data == "official" else None
        has_human = files is None or files.human is not None
        kinds: list[Literal["synthetic", "human"]] = ["synthetic", "human"] if has_human else ["synthetic"]
        if args.goals:
            kinds = [args.goals]
        shop = open_shop(args.data, data_dir=args.data_dir, human="human" in kinds, num_products=args.num_products)
        for quirks in [args.quirks] if args.quirks else get_args(Quirks):
            for kind in kinds:
                found = count_reachable(shop, Goals(shop.catalog, kind), quirks, args.thefuzz)
                print(f"quirks={quirks}: {found.share:.2%} of {found.goals} {kind} goals can reach 1.0")
                if args.name:
                    print(" ".join(map(str, found.unreachable)))
    except SdarError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    _main()
