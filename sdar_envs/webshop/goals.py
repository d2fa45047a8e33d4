"""Goals of WebShop: what to buy, with hidden prices, instructions, order and splits.

Everything random is drawn from `random.Random(seed)` in the order in which the original draws from the global
generator, so a seed gives the original's goals: a price for each product with a price range, a price limit for
each instruction, then the shuffle, for which the original seeds again.

Goals are made lazily: a product can have hundreds, one per combination of its options.
"""

from __future__ import annotations

import random
from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise
from math import isnan
from operator import add
from pathlib import Path
from types import MappingProxyType
from typing import Literal, NamedTuple, cast, overload

import numpy as np
from numpy.typing import NDArray

from sdar_envs.core import Task, index_from_id
from sdar_envs.errors import CorruptData, InvalidOption, UnknownName, did_you_mean
from sdar_envs.files.arrays import open_arrays, open_or_make, running_sum, save_arrays
from sdar_envs.webshop.catalog.products import Catalog, Product

__all__ = [
    "CANONICAL_SEED",
    "PRICE_RANGE",
    "SPLITS",
    "VERL_AGENT_SPLITS",
    "Goal",
    "GoalTasks",
    "Goals",
    "verl_agent_indices",
]

CANONICAL_SEED = 233
"""The seed of the original's shuffle. Here it also seeds the prices, which the original draws unseeded."""

# From WebShop (MIT, (c) 2022 Princeton NLP): limits are among the four next steps above the hidden price.
PRICE_RANGE: tuple[float, ...] = tuple(10.0 * step for step in range(1, 100))
"""The price limits that an instruction can name, in dollars."""

_FORMAT = 1
_KEPT_FROM = 20_000  # goals; fewer are drawn again in a few milliseconds
_MOST_GOALS = 10**8  # they fit four bytes, and a few gigabytes while they are shuffled

NO_LIMIT = 1_000_000
"""`price_upper` of a goal whose instruction names no limit."""

SPLITS: Mapping[str, tuple[int, int | None]] = MappingProxyType(
    {"train": (1500, None), "valid": (500, 1500), "test": (0, 500)}
)
"""First goal and end of each split, after the canonical shuffle."""

VERL_AGENT_SPLITS: Mapping[str, tuple[int, int | None]] = MappingProxyType({"train": (500, None), "valid": (0, 500)})
"""The same for verl-agent and SDAR, where each worker shuffles on its own."""


@dataclass(frozen=True, slots=True)
class Goal:
    """One goal: what to buy.

    Attributes:
        index: position after the shuffle.
        product: the product that the instruction was written for.
        instruction: what the shopper reads.
        attributes: the attributes to find.
        options: (name, value) pairs of a synthetic goal; the bare values of a human one.
        price_upper: the price limit, `NO_LIMIT` if there is none.
    """

    index: int
    product: Product
    instruction: str
    attributes: tuple[str, ...]
    options: tuple[tuple[str, str], ...] | tuple[str, ...]
    price_upper: float


class _Draws(NamedTuple):
    """Random draws of a seed. Cached on disk for large catalogues.

    Attributes:
        prices: the hidden price of each product.
        limits: the price limit of each instruction.
        order: the numbers of the goals, shuffled.
    """

    prices: NDArray[np.float64]
    limits: NDArray[np.float64]
    order: NDArray[np.int32]


class Goals(Sequence[Goal]):
    """Lazy sequence of all goals of a catalogue, shuffled, with the hidden prices they were made with.

    Args:
        catalog: the products.
        kind: `synthetic` (a template filled with attributes and options) or `human` (written by people).
        seed: for the hidden prices and the price limits. The original does not seed them.
        shuffle_seed: for the order of the goals.

    Raises:
        CorruptData: there is not one instruction.
    """

    def __init__(
        self,
        catalog: Catalog,
        kind: Literal["synthetic", "human"] = "synthetic",
        *,
        seed: int = CANONICAL_SEED,
        shuffle_seed: int = CANONICAL_SEED,
    ) -> None:
        self.kind = kind
        self._catalog = catalog
        # An instruction is a product and, for human goals, its position among those of the product that are goals.
        counts = catalog.combinations if kind == "synthetic" else catalog.human_counts
        products = np.flatnonzero(counts >= 0) if kind == "synthetic" else np.repeat(np.arange(len(counts)), counts)
        # Each combination of options makes a goal of a synthetic instruction.
        sizes = counts[products].astype(np.int64) if kind == "synthetic" else np.ones(len(products), dtype=np.int64)
        if sizes.sum(dtype=np.float64) > _MOST_GOALS:
            raise CorruptData(
                f"the {len(catalog)} products make more than {_MOST_GOALS:,} goals: one has options beyond measure."
            )
        starts = running_sum(sizes)
        total = int(starts[-1])
        if total == 0:
            raise CorruptData(
                f"none of the {len(catalog)} products makes a {kind} goal (it takes an instruction, and a "
                "value for each option): download the files again, or choose other goals."
            )
        # The original draws for instructions without a goal too.
        draws = _draw(catalog, kind, products, total, seed, shuffle_seed)
        self._products = products
        self._limits = draws.limits
        self._starts = starts.data
        self._order = draws.order.data
        # Read through memory views: their items are Python's own numbers, as the recorded ones.
        self.prices = cast("Sequence[float]", draws.prices.data)
        self._recent = lru_cache(maxsize=4096)(self._make)

    def __len__(self) -> int:
        return len(self._order)

    @overload
    def __getitem__(self, index: int) -> Goal: ...
    @overload
    def __getitem__(self, index: slice) -> list[Goal]: ...
    def __getitem__(self, index: int | slice) -> Goal | list[Goal]:
        """Return the goal at `index` after the shuffle."""
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(f"no goal {index}: there are {len(self)}")
        return self._recent(index % len(self))

    def weights(self) -> Iterator[float]:
        """Yield how often the original's random sessions have each goal, relatively, in the order of the goals."""
        if self.kind == "human":
            yield from (1 for _ in self._order)
            return
        products = self._catalog.products
        wanted = [products[int(number)].instruction_attributes for number in self._products]
        frequency: Counter[str] = Counter()
        for attributes, (start, end) in zip(wanted, pairwise(self._starts), strict=True):
            for attribute in attributes:
                frequency[attribute] += end - start
        by_instruction = [
            # Not sum(): from Python 3.12 on it rounds otherwise than the original's plain additions.
            reduce(add, (1.0 / frequency[name] for name in attributes)) / len(attributes) if end > start else 0.0
            for attributes, (start, end) in zip(wanted, pairwise(self._starts), strict=True)
        ]
        for number in self._order:
            yield by_instruction[bisect_right(self._starts, number) - 1]

    def _make(self, index: int) -> Goal:
        number = self._order[index]
        position = bisect_right(self._starts, number) - 1
        product = self._catalog.products[int(self._products[position])]
        upper = float(self._limits[position])
        limit = "" if upper == NO_LIMIT else f", and price lower than {upper:.2f} dollars"
        price_upper = NO_LIMIT if upper == NO_LIMIT else upper
        if self.kind == "human":
            first = int(np.searchsorted(self._products, product.number))
            human = [each for each in self._catalog.human(product.number) if each.attributes][position - first]
            instruction = f"{human.text.strip('.')}{limit}"
            return Goal(index, product, instruction, human.attributes, human.options, price_upper)
        options = _combination(product, number - self._starts[position])
        listed = ", and ".join(f"{name}: {value}" for name, value in options)
        instruction = f"{product.instruction}{' with ' if listed else ''}{listed}{limit}"
        return Goal(index, product, instruction, product.instruction_attributes, options, price_upper)


def _draw(catalog: Catalog, kind: str, products: NDArray[np.int64], total: int, *seeds: int) -> _Draws:
    """Return the draws for the instructions of `products`, which make `total` goals.

    Args:
        catalog: the products.
        kind: of the instructions.
        products: the number of the product of each instruction.
        total: number of goals.
        seeds: for prices and limits, and for the order.
    """
    seed, shuffle_seed = seeds

    def make() -> _Draws:
        rng = random.Random(seed)
        # A range draws even if its ends are equal; one price does not.
        prices = [low if isnan(high) else rng.uniform(low, high) for low, high in catalog.prices.tolist()]
        limits = [_limit(prices[number], rng) for number in products.tolist()]
        order = list(range(total))
        random.Random(shuffle_seed).shuffle(order)
        return _Draws(np.array(prices), np.array(limits, dtype=np.float64), np.array(order, dtype=np.int32))

    def open_draws(path: Path) -> _Draws:
        with open_arrays(path, _FORMAT) as (arrays, _):
            draws = _Draws(**arrays)
            if tuple(len(values) for values in draws) != (len(catalog), len(products), total):
                raise ValueError("its files do not fit the catalogue")
            return draws

    def save(draws: _Draws, path: Path) -> None:
        save_arrays(path, _FORMAT, draws._asdict(), {})

    # Other seeds may be many, one for each worker of a trainer: their draws would fill the disk.
    if total < _KEPT_FROM or not seed == shuffle_seed == CANONICAL_SEED:
        return make()
    return open_or_make(
        "webshop", f"goals-{catalog.fingerprint}-{kind}", open_draws, make, save, what="order of the goals"
    )


def _limit(price: float, rng: random.Random) -> float:
    first = bisect_right(PRICE_RANGE, price)
    above = PRICE_RANGE[first : first + 4]
    return max(rng.sample(above, 2)) if len(above) >= 2 else NO_LIMIT


class GoalTasks:
    """Task source over goals, with ids `webshop/<split>/[<mark>-]<number in the split>`.

    Args:
        goals: all goals.
        env_id: the environment that plays them.
        mark: tells these goals from those of another catalogue, kind or order; empty for the embedded ones.
        splits: first goal and end of each split. Splits that the goals do not reach are left out.
    """

    def __init__(
        self,
        goals: Goals,
        env_id: str,
        mark: str = "",
        splits: Mapping[str, tuple[int, int | None]] = SPLITS,
    ) -> None:
        self.goals = goals
        self._env_id = env_id
        self._mark = f"{mark}-" if mark else ""
        ends = {name: (start, min(len(goals), end or len(goals))) for name, (start, end) in splits.items()}
        self._ranges = {name: range(start, end) for name, (start, end) in ends.items() if start < end}
        self._sizes = MappingProxyType({name: len(indices) for name, indices in self._ranges.items()})
        self._recent = lru_cache(maxsize=4096)(self._make)

    @property
    def splits(self) -> Mapping[str, int | None]:
        """Goals in each split."""
        return self._sizes

    def task(self, split: str, index: int) -> Task:
        """Return goal `index` of the split."""
        if split not in self._ranges:
            raise UnknownName(f"no split {split!r} here.{did_you_mean(split, self._ranges)}")
        if not 0 <= index < len(self._ranges[split]):
            raise UnknownName(f"no task {index} in {split}: it has {len(self._ranges[split])} tasks, from 0.")
        return self._recent(split, index)

    def find(self, task_id: str) -> Task:
        """Return the goal with that id."""
        for split, indices in self._ranges.items():
            prefix = f"webshop/{split}/{self._mark}"
            if task_id.startswith(prefix):
                return self.task(split, index_from_id(task_id, prefix, len(indices)))
        examples = [f"webshop/{split}/{self._mark}0000" for split in self._ranges]
        raise UnknownName(
            f"no task {task_id[:200]!r}; the tasks here look like {examples[0]!r}.{did_you_mean(task_id, examples)}"
        )

    def goal(self, task: Task) -> Goal:
        """Return the goal of a task."""
        index: int = task.data["goal"]
        return self.goals[index]

    def _make(self, split: str, index: int) -> Task:
        goal = self.goals[self._ranges[split][index]]
        return Task(
            id=f"webshop/{split}/{self._mark}{index:04d}",
            env=self._env_id,
            split=split,
            task_type=goal.product.category,
            instruction=goal.instruction,
            data={"goal": goal.index},
            suite="webshop",
        )


def verl_agent_indices(seed: int, env_num: int, start: int, end: int) -> Iterator[list[int]]:
    """Yield the goal indices that verl-agent gives to its groups of workers, one list per reset.

    Args:
        seed: the vector's seed; validation uses the training seed plus 1000.
        env_num: number of groups.
        start: first index of the pool: 0 for validation, 500 for training.
        end: end of the pool: 500 for validation, the number of goals for training.
    """
    pool = list(range(start, end))
    if not 0 <= env_num <= len(pool):
        raise InvalidOption(f"env_num is {env_num}, but there are {len(pool)} goals from {start} to {end}.")
    draws = np.random.RandomState(seed)
    while True:
        yield draws.choice(pool, size=env_num, replace=False).tolist()


def _combination(product: Product, number: int) -> tuple[tuple[str, str], ...]:
    """Return combination `number` of `itertools.product` over the options, sorted by name."""
    chosen = []
    for name, values in sorted(product.options, reverse=True):
        number, position = divmod(number, len(values))
        chosen.append((name, values[position]))
    return tuple(reversed(chosen))
