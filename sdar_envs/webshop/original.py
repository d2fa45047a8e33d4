"""WebShop's own environment interface, for comparisons with the original implementation.

`OriginalSessions` keeps what the original's `WebAgentTextEnv` does between episodes: session ids that keep their goals,
and goals drawn from one random generator. `sdar_envs.webshop.env.WebShopEnv` is the environment to use.
"""

from __future__ import annotations

import random
import string
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from sdar_envs.webshop.goals import Goals
from sdar_envs.webshop.pages import Pages
from sdar_envs.webshop.session import Controls, Session
from sdar_envs.webshop.shop import RESULTS, UnansweredSearch

__all__ = ["OriginalSessions"]


class OriginalSessions:
    """The original's `reset` and `step`: ids, draws, exceptions and return values.

    Args:
        controls: the shop. With `quirks="fixed"` every goal is drawn with its weight; the original never draws goal 0
            and draws the last one twice as often, by an index that is off by one.
        goals: the goals.
        rng: the original's is the global generator.

    Attributes:
        rng: as given.
        pages: renders `session`.
        session: the current session.
    """

    def __init__(self, controls: Controls, goals: Goals, rng: random.Random) -> None:
        self.rng = rng
        self.pages = Pages(controls.shop, controls.sub_pages)
        self.session: Session
        self._controls = controls
        self._goals = goals
        self._cumulative = [0.0, *accumulate(goals.weights())]
        self._goal_of: dict[str, int] = {}

    def reset(self, session: Any = None) -> str:
        """Start an episode and return its first page.

        Args:
            session: an integer is the index of the goal and the session's id; any other value, NumPy's integers
                included, is only an id, whose goal is drawn. None draws an id too. An id seen before keeps its goal.
        """
        session_id = "".join(self.rng.choices(string.ascii_lowercase, k=10)) if session is None else str(session)
        if session_id not in self._goal_of:
            index = session if isinstance(session, int) else self._random_index()
            self._goal_of[session_id] = index
        goal = self._goals[self._goal_of[session_id]]
        self.session = Session(self._controls, self._goals, goal, session_id, self._sample)
        return self.pages.text(self.session)

    def step(self, action: str) -> tuple[str, float, bool, dict[str, Any] | None]:
        """Act and return the page, the reward (the integer 0 for an ignored action), done, and the score's breakdown.

        Raises:
            TypeError: a search for `<a>`, as in the original.
            IndexError: a search for `<c>` alone.
            ValueError: a search for `<r>` among fewer than 50 products.
        """
        try:
            acted = self.session.act(action)
        except UnansweredSearch as error:
            raise error.original from error
        page = self.pages.text(self.session)
        purchase = self.session.state.purchase
        if not acted or purchase is None:
            return page, 0.0 if acted else 0, False, None
        return page, purchase.score, True, dict(purchase.breakdown)

    def _sample(self, _draws: int, count: int) -> Sequence[int]:
        return self.rng.sample(range(count), RESULTS)

    def _random_index(self) -> int:
        position = bisect_right(self._cumulative, self.rng.uniform(0, self._cumulative[-1]))
        if self._controls.quirks == "fixed":
            position -= 1
        return min(position, len(self._cumulative) - 2)
