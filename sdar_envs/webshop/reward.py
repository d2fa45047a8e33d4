"""WebShop reward: the score of a purchase and its breakdown, equal to the original's in the last digit.

    score = r_type * (matched attributes + matched options + price within limit) / (attributes + options + 1)

`r_type` is 1 if the product is of the kind that was asked for, less if its title shares few nouns with the wanted
product's title; what the nouns are is `TitleNouns`' business. Texts are compared by rapidfuzz's
`token_set_ratio` after thefuzz's preparation and rounding; more than 85 is a match.

`quirks="original"` keeps what changes scores by accident. In a synthetic goal an option is the pair (name, value),
of which the colour is only recognised if the value is nothing else, while the purchased value is always reduced to
the first colour word inside it: a goal such as color: black1901 cannot be met by buying black1901, and buying a value
that equals the name of an option ("size") meets it. `quirks="fixed"` compares values with values: a goal's option is
met by the same value, or by one that matches after both are reduced to their colour. In both, any shade of a colour
passes, and so does a value that shares all its words with the wanted one.

`thefuzz="0.22"` (default) compares as thefuzz does from 0.20 on, which is what an installation of today gets. WebShop's
requirements pin 0.19, for which an underscore is a letter: ("color", "black_style_99496") then has no word `black`, and
"black" scores 36 instead of 100. `thefuzz="0.19"` is that version with python-Levenshtein.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from rapidfuzz.fuzz import ratio, token_set_ratio
from rapidfuzz.utils import default_process

from sdar_envs.webshop.catalog.loading import Product
from sdar_envs.webshop.goals import Goal
from sdar_envs.webshop.nouns import TitleNouns

__all__ = [
    "COLORS",
    "Purchase",
    "Quirks",
    "TheFuzz",
    "matched_options",
    "normalize_color",
    "score_purchase",
    "similarity",
]

Quirks = Literal["original", "fixed"]
TheFuzz = Literal["0.22", "0.19"]

_MATCH = 85

# From WebShop (MIT, (c) 2022 Princeton NLP). The order counts: the first word that occurs in a text is its colour.
COLORS: tuple[str, ...] = tuple(
    """
    alabaster apricot aqua ash asphalt azure banana beige black blue blush bordeaux bronze brown burgundy camel camo
    caramel champagne charcoal cheetah chestnut chocolate christmas coffee cognac copper coral cranberry cream crystal
    dark denim eggplant elephant espresso fuchsia gold granite grape graphite grass gray green grey heather indigo
    ivory ivy khaki lavender lemon leopard light lilac lime magenta maroon mauve merlot midnight mint mocha multicolor
    mushroom mustard natural navy nude olive orange peach pewter pink plum purple rainbow red rose royal rust sand
    sapphire seashell silver skull slate steel stone stonewash sunflower tan taupe teal tiger turquoise violet walnut
    wheat white wine yellow
    """.split()  # noqa: SIM905
)
"""The colour words."""

# thefuzz drops these characters (it calls that "forcing ASCII") before it prepares a text.
_LATIN_1 = dict.fromkeys(range(0x80, 0x100))
_NO_LETTER = re.compile(r"\W")


@dataclass(frozen=True, slots=True)
class Purchase:
    """Score of a purchase.

    Attributes:
        score: 0 to 1.
        breakdown: the original's parts of it: `r_type`, `r_att`, `w_att`, `query_match`, `category_match`,
            `title_score`, `r_price`, `w_price`, and if the goal has options `r_option`, `w_option`.
    """

    score: float
    breakdown: Mapping[str, Any]


def normalize_color(text: str) -> str:
    """Return the first of `COLORS` that occurs in the text, also inside a word; else the text itself."""
    return next((color for color in COLORS if color in text), text)


def similarity(one: str, other: str, thefuzz: TheFuzz = "0.22") -> int:
    """Return thefuzz's `token_set_ratio`, 0 to 100, as of a version: see the module."""
    if thefuzz == "0.19":
        return _similarity_019(one, other)
    return round(token_set_ratio(_prepared(one), _prepared(other)))


def _similarity_019(one: str, other: str) -> int:
    left, right = (frozenset(_NO_LETTER.sub(" ", text.translate(_LATIN_1)).lower().split()) for text in (one, other))
    if not left or not right:
        return 0
    shared = " ".join(sorted(left & right))
    whole = [f"{shared} {' '.join(sorted(words - (left & right)))}".strip() for words in (left, right)]
    pairs = ((shared, whole[0]), (shared, whole[1]), (whole[0], whole[1]))
    return max(round(ratio(a, b)) if a and b else 0 for a, b in pairs)


def score_purchase(
    product: Product,
    options: Mapping[str, str],
    price: float,
    goal: Goal,
    nouns: TitleNouns,
    *,
    quirks: Quirks = "original",
    thefuzz: TheFuzz = "0.22",
) -> Purchase:
    """Score the purchase of a product.

    Args:
        product: what was bought.
        options: the chosen value of each chosen option.
        price: the hidden price of the product.
        goal: what was wanted.
        nouns: gives the nouns of titles.
        quirks: see the module.
        thefuzz: see the module.
    """
    breakdown = _type_reward(product, goal, nouns)
    attributes = sum(_has_attribute(product, wanted, thefuzz) for wanted in goal.attributes)
    matched = len(matched_options(options.values(), goal.options, quirks, thefuzz))
    in_budget = price <= goal.price_upper
    parts = len(goal.attributes) + len(goal.options) + 1
    score = (attributes + matched + in_budget) / parts * breakdown["r_type"]
    detail: dict[str, Any] = {
        "r_type": breakdown["r_type"],
        "r_att": attributes / len(goal.attributes),
        "w_att": len(goal.attributes) / parts,
        "query_match": breakdown["query_match"],
        "category_match": breakdown["category_match"],
        "title_score": breakdown["title_score"],
    }
    if goal.options:
        detail |= {"r_option": matched / len(goal.options), "w_option": len(goal.options) / parts}
    detail |= {"r_price": in_budget, "w_price": 1 / parts}
    return Purchase(score, detail)


def matched_options(
    purchased: Iterable[str],
    wanted: Sequence[tuple[str, str] | str],
    quirks: Quirks = "original",
    thefuzz: TheFuzz = "0.22",
) -> frozenset[int]:
    """Return which of a goal's options, by position, the purchased values meet."""
    values = list(purchased)
    return frozenset(
        position
        for position, option in enumerate(wanted)
        if any(_meets(value, option, quirks, thefuzz) for value in values)
    )


@lru_cache(maxsize=1 << 14)
def _meets(value: str, option: tuple[str, str] | str, quirks: Quirks, thefuzz: TheFuzz) -> bool:
    bare = option if isinstance(option, str) else option[1]
    if quirks == "fixed":
        return value == bare or similarity(normalize_color(value), normalize_color(bare), thefuzz) > _MATCH
    if isinstance(option, str):
        target = normalize_color(option)
    else:
        # Looking for a colour in a pair finds only an element that equals it; the pair's repr is what is compared.
        target = next((color for color in COLORS if color in option), str(option))
    return similarity(normalize_color(value), target, thefuzz) > _MATCH


def _has_attribute(product: Product, wanted: str, thefuzz: TheFuzz) -> bool:
    return any(similarity(known, wanted, thefuzz) > _MATCH for known in product.attributes) or any(
        wanted in text.lower() for text in (product.title, " ".join(product.bullets), product.description)
    )


def _type_reward(product: Product, goal: Goal, nouns: TitleNouns) -> dict[str, Any]:
    wanted = nouns.of(goal.product.title)
    query_match = product.query == goal.product.query
    category_match = len(_categories(product.product_category) & _categories(goal.product.product_category)) >= 2
    common = len(set(nouns.of(product.title)) & set(wanted))
    title_score = common / len(wanted) if wanted else 0.2
    r_type = 1.0
    if not (query_match or category_match or title_score > 0.2):
        r_type = 0.5
    if title_score < 0.1:
        r_type = 0.1
    if title_score == 0.0:
        r_type = 0.0
    return {
        "r_type": r_type,
        "query_match": query_match,
        "category_match": category_match,
        "title_score": title_score,
    }


@lru_cache(maxsize=4096)
def _categories(path: str) -> frozenset[str]:
    return frozenset(part.strip() for part in path.split("›"))


@lru_cache(maxsize=1 << 14)
def _prepared(text: str) -> str:
    return default_process(text.translate(_LATIN_1))
