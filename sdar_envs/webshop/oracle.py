"""Oracle of WebShop: a plan that buys the goal's product with a full score.

It searches with the words of the instruction, as a player does, if the goal's own product is among the first 20
results, else by the product's hidden title, or by the magic searches that list a query or a category. It chooses the
fewest option values that meet all wanted options, and tries the plan on a copy of the session, so a plan that is
returned scores 1.0. Some goals have none: see the quirks in `sdar_envs.webshop.reward`. A full score with another
product, which the reward allows in principle, is not looked for.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from sdar_envs.webshop.reward import matched_options
from sdar_envs.webshop.session import Session

__all__ = ["plan"]

# Pages of results that a plan may turn to find the product by the words of the instruction.
_VISIBLE_PAGES = 2
_LIMIT = re.compile(r",? and price lower than \d+\.\d+ dollars$")
_UNTYPEABLE = str.maketrans("[]<>\n\r\t", " " * 7)


def plan(session: Session) -> tuple[str, ...] | None:
    """Return actions that buy the wanted product with the wanted options from here; None if none are found.

    A session that has bought with a full score needs none, one that has bought otherwise is over.
    """
    purchase = session.state.purchase
    if purchase is not None:
        return () if purchase.score == 1.0 else None
    for way, chosen in _ways(session):
        choices = _choices(session, chosen)
        if choices is None:
            return None
        actions = (*way, *choices, "click[buy now]")
        if _score(session, actions) == 1.0:
            return actions
    return None


def _score(session: Session, actions: tuple[str, ...]) -> float:
    trial = session.copy()
    for action in actions:
        if not trial.act(action):
            return 0.0
    return trial.state.purchase.score if trial.state.purchase is not None else 0.0


def _choices(session: Session, chosen: Mapping[str, str]) -> list[str] | None:
    """Return the fewest clicks on option values that, after what is chosen already, meet all options of the goal."""
    goal = session.goal
    rules = (session.controls.quirks, session.controls.thefuzz)
    name_of = session.controls.choices(goal.product.number)
    # Covered options -> clicks. At most one value per option name, and the goal's own value comes first.
    found: dict[frozenset[int], list[str]] = {frozenset(): []}
    own = frozenset(option if isinstance(option, str) else option[1] for option in goal.options)
    for name, values in goal.product.options:
        kept = matched_options([chosen[name]] if name in chosen else [], goal.options, *rules)
        extended: dict[frozenset[int], list[str]] = {}
        for covered, clicks in found.items():
            known = extended.get(covered | kept)
            if known is None or len(known) > len(clicks):
                extended[covered | kept] = clicks
        for value in sorted(dict.fromkeys(values), key=lambda value: value not in own):
            if name_of.get(value) != name:
                continue
            met = matched_options([value], goal.options, *rules)
            for covered, clicks in found.items():
                known = extended.get(covered | met)
                if known is None or len(known) > len(clicks) + 1:
                    extended[covered | met] = [*clicks, f"click[{value}]"]
        found = extended
    return found.get(frozenset(range(len(goal.options))))


def _ways(session: Session) -> Iterator[tuple[list[str], Mapping[str, str]]]:
    """Yield ways to the page of the goal's product, the most direct first, and the options chosen on arrival."""
    state, product = session.state, session.goal.product
    if state.product == product.number and state.page_name == "item_page":
        yield [], state.options
    if state.product == product.number and state.page_name == "item_sub_page":
        yield ["click[< prev]"], state.options
    click = f"click[{product.asin.lower()}]"
    if state.page_name == "search_results" and product.number in state.results:
        pages = list(state.results).index(product.number) // 10 + 1 - state.page
        if pages >= 0:
            yield [*["click[next >]"] * pages, click], {}
    words = _typeable(session.goal.instruction)
    title = _typeable(product.title)
    bullet = _typeable(product.bullets[0]) if product.bullets else ""
    for query, limit in (
        (_LIMIT.sub("", words), _VISIBLE_PAGES),
        (words, _VISIBLE_PAGES),
        *((text, None) for text in (title, f"{title} {bullet}", f"<q> {product.query}", f"<c> {product.category}")),
    ):
        trial = session.copy()
        if trial.act(f"search[{query}]") and product.number in trial.state.results:
            pages = list(trial.state.results).index(product.number) // 10
            if limit is not None and pages >= limit:
                continue
            yield [f"search[{query}]", *["click[next >]"] * pages, click], {}


def _typeable(text: str) -> str:
    return " ".join(text.translate(_UNTYPEABLE).split())
