"""Generator of the embedded catalogue: products from a seed, the same on every machine.

`generate_catalog()` returns products, attributes and instructions in the official file format
(`items_shuffle`, `items_ins_v2`, `items_human_ins`), and the nouns of every title, which the reward
needs and the generator knows. How many products have options, how many values an option has, prices,
attributes and lengths of texts are close to the official 1,000-product files; words are our own.

Products come in families: one maker's near-duplicates that differ in one attribute, in the values of one
option, in the price or in the line's name, so that reading and choosing matter.

Catalogues of fewer than 50 products are refused, because they could not have goals of all departments.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

from sdar_envs.errors import InvalidOption
from sdar_envs.rng import Rng, Weights
from sdar_envs.webshop.catalog.vocabulary import (
    BRAND_ENDS,
    BRAND_STARTS,
    CLOSINGS,
    DEPARTMENTS,
    GLUED_COLORS,
    LINES,
    NOT_NOUNS,
    ONLY_FOR,
    OPTION_VALUES,
    PLAIN_COLORS,
    REMARKS,
    SHADES,
    TITLE_EXTRAS,
    Department,
    Group,
    Kind,
)

__all__ = ["GeneratedCatalog", "generate_catalog", "nouns_of"]

_SMALLEST = 50

_FAMILY_SIZES = Weights({1: 40, 2: 28, 3: 19, 4: 13})
_ATTRIBUTE_COUNTS = Weights({1: 8, 2: 36, 3: 31, 4: 15, 5: 7, 6: 3})
_BULLET_COUNTS = Weights({2: 6, 3: 10, 4: 18, 5: 50, 6: 10, 7: 6})
_VALUE_COUNTS = Weights({1: 6, 2: 9, 3: 11, 4: 11, 5: 11, 6: 12, 8: 13, 10: 13, 12: 9, 15: 5})
_VARIATIONS = Weights({"attribute": 50, "option": 28, "price": 10, "line": 12})
_HUMAN_COUNTS = Weights({0: 25, 1: 48, 2: 20, 3: 7})
_SORTS = Weights({0: 46, 1: 30, 2: 24})
# Products on the shelves of a group, relative to each other.
_FULLNESS = (30, 3, 13, 2, 5, 1, 17, 3, 1, 7)
# Chances in per cent.
_WITHOUT_PRICE, _RANGED = 9, 10
_WITH_INSTRUCTION = 42
_WITHOUT_DESCRIPTION = 6
_IN_TITLE, _IN_DESCRIPTION = 36, 9
_TOLD_IN_BULLETS, _UNTOLD_IN_BULLETS, _GENERAL_FIRST = 35, 88, 85
_SHELF_NAMED, _LONG_DESCRIPTION = 92, 16
_GLUED = 6
# Synthetic goals are the product of all options: without a limit, some products would have hundreds.
_MOST_COMBINATIONS = 72

_POSSESSIVES = {"Women": "Women's", "Men": "Men's", "Boys": "Boys'", "Girls": "Girls'", "Kids": "Kids'"}


@dataclass(frozen=True, slots=True)
class GeneratedCatalog:
    """A catalogue in the official file format.

    Attributes:
        products: the records of `items_shuffle.json`, in their order.
        attributes: `items_ins_v2.json`: by ASIN, attributes and, for some, an instruction.
        human_instructions: `items_human_ins.json`: by ASIN, instructions as people type them.
        title_nouns: by title, its nouns in lower case, in order, with repetitions.
    """

    products: tuple[dict[str, Any], ...]
    attributes: dict[str, dict[str, Any]]
    human_instructions: dict[str, list[dict[str, Any]]]
    title_nouns: dict[str, list[str]]


def generate_catalog(seed: int = 1, size: int = 2200) -> GeneratedCatalog:
    """Generate a catalogue.

    Args:
        seed: any whole number.
        size: products.

    Raises:
        InvalidOption: `size` is below 50.
    """
    if size < _SMALLEST:
        raise InvalidOption(f"size is {size}; wanted a catalogue of at least {_SMALLEST} products.")
    name = f"webshop/1/{seed}"
    rng = Rng(name)
    items: list[_Item] = []
    share = 0
    for department in DEPARTMENTS:
        share += department.weight
        full = size * share // 1000
        while len(items) < full:
            family = _family(department, f"{name}/{len(items)}")
            items += family[: full - len(items)]
    items = rng.shuffled(items)

    products: list[dict[str, Any]] = []
    attributes: dict[str, dict[str, Any]] = {}
    human: dict[str, list[dict[str, Any]]] = {}
    nouns: dict[str, list[str]] = {}
    for number, item in enumerate(items):
        asin = _asin(rng)
        while asin in attributes:
            asin = _asin(rng)
        record = _record(item, asin, number)
        products.append(record)
        nouns[record["name"]] = nouns_of(record["name"])
        attributes[asin] = _instruction_record(rng, item)
        sentences = [_human_record(rng, item, asin) for _ in range(rng.weighted(_HUMAN_COUNTS))]
        if sentences:
            human[asin] = sentences
    return GeneratedCatalog(tuple(products), attributes, human, nouns)


def nouns_of(title: str) -> list[str]:
    """Return the nouns of a title made here, in lower case and in order: all words but those known to be none."""
    # Left out as well: the s of possessives, letters such as vitamin C's, and words with digits.
    return [word for word in re.findall(r"[a-z0-9]{2,}", title.lower()) if word.isalpha() and word not in NOT_NOUNS]


# -- products ---------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Shelf:
    """One kind of product, and the attributes that it can have."""

    department: Department
    group: Group
    kind: Kind
    qualities: tuple[str, ...]
    parts: tuple[str, ...]
    uses: tuple[str, ...]

    @property
    def pools(self) -> tuple[tuple[str, ...], ...]:
        """The attributes by sort."""
        return (self.qualities, self.parts, self.uses)


@cache
def _shelves(department: Department) -> Weights[_Shelf]:
    """Return the shelves of a department. Some are much fuller than others."""
    shelves: dict[_Shelf, int] = {}
    for group in department.groups:
        for position, kind in enumerate(group.kinds):
            pools = (group.qualities + department.qualities, group.parts, group.uses)
            fitting = (tuple(a for a in pool if kind.query in ONLY_FOR.get(a, (kind.query,))) for pool in pools)
            shelves[_Shelf(department, group, kind, *fitting)] = _FULLNESS[position % len(_FULLNESS)]
    return Weights(shelves)


@dataclass(frozen=True, slots=True)
class _Item:
    """A product before it is put in words.

    Attributes:
        shelf: where it is sold.
        audience: `Women`, or empty.
        brand: the maker.
        line: the maker's line; may be empty.
        noun: what titles call it.
        attributes: all of them, the most important first.
        options: values by option name.
        prices: none, one, or the two ends of a range, in cents.
        texts: seed of everything written about it, which a family shares.
    """

    shelf: _Shelf
    audience: str
    brand: str
    line: str
    noun: str
    attributes: tuple[str, ...]
    options: Mapping[str, tuple[str, ...]]
    prices: tuple[int, ...]
    texts: str

    @property
    def query(self) -> str:
        """The shelf as shoppers type it."""
        query = self.shelf.kind.query
        return f"{_POSSESSIVES[self.audience]} {query}".lower() if self.audience else query

    @property
    def name(self) -> str:
        """What titles and descriptions call it: maker and line."""
        return f"{self.brand} {self.line}" if self.line else self.brand


def _family(department: Department, name: str) -> list[_Item]:
    """Return near-duplicates of one maker."""
    rng = Rng(name)
    shelf = rng.weighted(_shelves(department))
    audiences = shelf.group.audiences
    item = _Item(
        shelf=shelf,
        audience=rng.choice(audiences) if audiences else "",
        brand=rng.choice(BRAND_STARTS) + rng.choice(BRAND_ENDS),
        line=rng.choice(LINES) if rng.per_cent(55) else "",
        noun=rng.choice(shelf.kind.names),
        attributes=_attributes(rng, shelf),
        options=_limited(_options(rng, shelf)),
        prices=_prices(rng, shelf.group.prices),
        texts=f"{name}/texts",
    )
    family = [item]
    for _ in range(rng.weighted(_FAMILY_SIZES) - 1):
        sibling = _sibling(rng, rng.choice(family))
        if sibling not in family:
            family.append(sibling)
    return family


def _sibling(rng: Rng, item: _Item) -> _Item:
    """Return the item with one thing changed."""
    variation = rng.weighted(_VARIATIONS)
    if variation == "option" and item.options:
        name = rng.choice(tuple(item.options))
        old = item.options[name]
        new = [value for value in _values(rng, name, item.shelf) if value not in old]
        return replace(item, options=_limited({**item.options, name: (*old[: len(old) // 2], *new) or old}))
    if variation == "price" and len(item.prices) == 1:
        return replace(item, prices=(_charm(rng, item.prices[0] * rng.between(125, 260) // 100),))
    if variation == "line":
        return replace(item, line=rng.choice(LINES))
    position = rng.below(len(item.attributes))
    pool = next(pool for pool in item.shelf.pools if item.attributes[position] in pool)
    new_attribute = rng.choice([attribute for attribute in pool if attribute not in item.attributes])
    attributes = (*item.attributes[:position], new_attribute, *item.attributes[position + 1 :])
    return replace(item, attributes=attributes)


def _attributes(rng: Rng, shelf: _Shelf) -> tuple[str, ...]:
    chosen: list[str] = []
    for _ in range(rng.weighted(_ATTRIBUTE_COUNTS)):
        free = [attribute for attribute in shelf.pools[rng.weighted(_SORTS)] if attribute not in chosen]
        # One is left over in every pool, so that a sibling can differ in it.
        if len(free) > 1:
            chosen.append(rng.choice(free))
    return tuple(chosen) or (rng.choice(shelf.qualities),)


def _options(rng: Rng, shelf: _Shelf) -> dict[str, tuple[str, ...]]:
    if not rng.per_cent(shelf.group.optional):
        return {}
    return {name: _values(rng, name, shelf) for name in rng.weighted(Weights(shelf.group.option_sets))}


def _limited(options: dict[str, tuple[str, ...]]) -> dict[str, tuple[str, ...]]:
    """Return the options with as many of the last values left out as there are combinations too many."""
    while _combinations(options) > _MOST_COMBINATIONS:
        longest = max(options, key=lambda name: len(options[name]))
        options = {**options, longest: options[longest][:-1]}
    return options


def _combinations(options: Mapping[str, Sequence[str]]) -> int:
    product = 1
    for values in options.values():
        product *= len(values)
    return product


def _values(rng: Rng, name: str, shelf: _Shelf) -> tuple[str, ...]:
    count = rng.weighted(_VALUE_COUNTS)
    if name == "color":
        drawn = (
            rng.choice(GLUED_COLORS if rng.per_cent(_GLUED) else PLAIN_COLORS if rng.per_cent(45) else SHADES)
            for _ in range(count)
        )
        return tuple(dict.fromkeys(drawn))
    lists = OPTION_VALUES[name]
    key = next(key for key in (shelf.kind.query, shelf.group.path[1], shelf.department.name, "") if key in lists)
    values = rng.choice(lists[key])
    if len(values) <= count:
        return values
    # A run of neighbouring values, as shops have them, with gaps where something is sold out.
    start = rng.below(len(values) - count + 1)
    return values[start : start + count]


def _prices(rng: Rng, usual: tuple[int, int]) -> tuple[int, ...]:
    low, high = usual
    price = _charm(rng, int(100 * low * (high / low) ** (rng.share() ** 1.3)))
    if rng.per_cent(_WITHOUT_PRICE):
        return ()
    if rng.per_cent(_RANGED):
        return (price, _charm(rng, price * rng.between(115, 220) // 100))
    return (price,)


def _charm(rng: Rng, cents: int) -> int:
    """Return a price near by that ends as prices do."""
    return max(cents // 100, 1) * 100 + rng.choice((99, 99, 99, 95, 49, 0, 97, 79, 89, 50))


def _asin(rng: Rng) -> str:
    # Real ones start with B0: none of these belongs to a real product.
    return "BX" + "".join(rng.choice("0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ") for _ in range(8))


# -- records ----------------------------------------------------------------------------------


def _record(item: _Item, asin: str, number: int) -> dict[str, Any]:
    rng = Rng(item.texts)
    shelf = item.shelf
    title, untold = _title(rng, item)
    bullets, untold = _bullets(rng, item, untold)
    dollars = [f"${cents // 100:,}.{cents % 100:02d}" for cents in item.prices]
    audience = (item.audience,) if item.audience else ()
    path = (shelf.department.root, *audience, *shelf.group.path, shelf.kind.query.title())
    return {
        "asin": asin,
        "name": title,
        "brand": item.brand,
        "category": shelf.department.name,
        "query": item.query,
        "product_category": " › ".join(path),
        "full_description": _description(rng, item, untold),
        "small_description": bullets,
        "pricing": " - ".join(dollars),
        "images": [f"{asin}.svg"],
        "customization_options": {
            name.title(): [{"value": value, "image": None} for value in values] for name, values in item.options.items()
        },
        "page": number // 10 + 1,
    }


def _title(rng: Rng, item: _Item) -> tuple[str, list[str]]:
    """Return the title, and the attributes that it does not name."""
    qualities, parts, uses = _sorted(item.shelf, item.attributes)
    # Drawn for all sorts at once: a sibling with another attribute of the sort has it at the same place.
    in_title = [rng.per_cent(_IN_TITLE) for _ in range(4)]
    told: list[str] = []
    head = [item.name]
    if item.audience:
        head.append(_POSSESSIVES[item.audience])
    if qualities and in_title[0]:
        told.append(qualities[0])
        head.append(qualities[0].title())
    head.append(item.noun)
    if parts and in_title[1]:
        told.append(parts[0])
        head.append(f"with {parts[0].title()}")
    tail: list[str] = []
    if uses and in_title[2]:
        told.append(uses[0])
        tail.append(f"for {uses[0].title()}")
    if len(qualities) > 1 and in_title[3]:
        told.append(qualities[1])
        tail.append(qualities[1].title())
    tail += rng.shuffled(TITLE_EXTRAS)[: rng.between(2, 5)]
    # The maker's number of this very product, as every other sibling has one of its own.
    own = Rng(f"{item.texts}/{item.line}/{' '.join(item.attributes)}")
    tail.append(f"{own.choice(_LETTERS)}{own.choice(_LETTERS)}{own.between(10, 9999)}")
    if not item.options:
        tail.append(_variant(rng, item.shelf))
    return ", ".join([" ".join(head), *tail]).replace(", (", " ("), _without(item.attributes, told)


_LETTERS = "ABCDEFKMNRSTVWXYZ"


def _variant(rng: Rng, shelf: _Shelf) -> str:
    """Return what a title says about a product that has no options."""
    if shelf.department.name in ("beauty", "grocery"):
        return rng.choice(_values(rng, "size", shelf)).replace(" (", ", (")
    return f"({rng.choice(SHADES if rng.per_cent(60) else PLAIN_COLORS)})"


def _sorted(shelf: _Shelf, attributes: Sequence[str]) -> tuple[list[str], ...]:
    """Return the attributes by sort: qualities, parts, uses."""
    return tuple([attribute for attribute in attributes if attribute in pool] for pool in shelf.pools)


def _without(attributes: Sequence[str], told: Sequence[str]) -> list[str]:
    return [attribute for attribute in attributes if attribute not in told]


# Sentences that name an attribute, by its sort: in bullets, in descriptions.
_BULLET_SENTENCES = (
    (
        "{A}: asked for more often than anything else, so we began with it.",
        "{A}, and it stays that way with normal care.",
        "Truly {a}, as our oldest customers confirm in their letters.",
        "{A}: not a slogan but the first line of our checklist.",
    ),
    (
        "With {a}: a small thing that makes the difference every day.",
        "{A} included, chosen after we had compared nine suppliers.",
        "Comes with {a}, because you asked us to keep it.",
        "You will notice {a} first; everything else follows from it.",
    ),
    (
        "For {a}: that is what it was drawn for in the first place.",
        "Our pick for {a}, and the reason why we make it at all.",
        "Suited for {a}, as many who bought it told us.",
        "Think of {a}: this is where it is at home.",
    ),
)
_DESCRIPTION_SENTENCES = (
    ("It is {a}.", "Thought out to be {a}.", "Those who want something {a} stop looking here."),
    ("It comes with {a}.", "What people mention first: {a}.", "We would not make it without {a}."),
    ("Meant for {a}.", "Many buy it for {a}.", "Ask for this one if it is for {a}."),
)


def _sentence(rng: Rng, shelf: _Shelf, sentences: tuple[tuple[str, ...], ...], attribute: str) -> str:
    sort = next(sort for sort, pool in enumerate(shelf.pools) if attribute in pool)
    return rng.choice(sentences[sort]).format(a=attribute, A=attribute[:1].upper() + attribute[1:])


def _bullets(rng: Rng, item: _Item, untold: list[str]) -> tuple[list[str], list[str]]:
    """Return the list of features, and the attributes that neither it nor the title names."""
    shelf = item.shelf
    count = rng.weighted(_BULLET_COUNTS)
    facts = rng.shuffled(shelf.group.facts + shelf.department.facts + REMARKS)
    draws = [rng.share() * 100 for _ in item.attributes]
    named = [
        attribute
        for attribute, draw in zip(item.attributes, draws, strict=True)
        if draw < (_UNTOLD_IN_BULLETS if attribute in untold else _TOLD_IN_BULLETS)
    ][:count]
    bullets: list[str] = []
    for position in range(count):
        sentences = facts[3 * position : 3 * position + (2 if position < len(named) else 3)]
        if position < len(named):
            sentences.insert(0, _sentence(rng, shelf, _BULLET_SENTENCES, named[position]))
        # The official ones end with a blank.
        bullets.append(" ".join(sentences) + " ")
    if rng.per_cent(_GENERAL_FIRST):
        bullets.reverse()
    return bullets, _without(untold, named)


def _description(rng: Rng, item: _Item, untold: list[str]) -> str:
    if rng.per_cent(_WITHOUT_DESCRIPTION) and not untold:
        return ""
    shelf = item.shelf
    opening = rng.choice(_OPENINGS).format(name=item.name, brand=item.brand, noun=item.noun.lower(), Noun=item.noun)
    facts = rng.shuffled(shelf.group.facts + shelf.department.facts)[: rng.between(2, 5)]
    if rng.per_cent(_LONG_DESCRIPTION):
        facts += rng.shuffled(REMARKS)[: rng.between(6, 14)]
    draws = [rng.per_cent(_IN_DESCRIPTION) for _ in item.attributes]
    named = [attribute for attribute, draw in zip(item.attributes, draws, strict=True) if draw or attribute in untold]
    sentences = [_sentence(rng, shelf, _DESCRIPTION_SENTENCES, attribute) for attribute in named]
    if rng.per_cent(_SHELF_NAMED):
        facts.append(rng.choice(_SHELF_SENTENCES).format(query=item.query))
    return " ".join([opening, *sentences, *facts, rng.choice(CLOSINGS)])


_SHELF_SENTENCES = (
    "Have a look at our other {query} too.",
    "We have made {query} for eleven years.",
    "Filed under {query}.",
)
_OPENINGS = (
    "{Noun} made the way {brand} likes it.",
    "{name}: {noun} for people who read labels.",
    "{name} {noun}, once a drawing on a paper bag.",
    "Straight from the {name} workshop: {noun} that we would give to a friend.",
    "More {noun}? Yes, since {brand} found something to improve.",
)


# -- instructions -----------------------------------------------------------------------------


def _instruction_record(rng: Rng, item: _Item) -> dict[str, Any]:
    """Return the entry of `items_ins_v2`."""
    record: dict[str, Any] = {"attributes": list(item.attributes)}
    if not rng.per_cent(_WITH_INSTRUCTION):
        return record
    wanted = item.attributes[: rng.choice((2, 3, 4, 6))]
    opener = rng.choice(("Show me", "I am looking for", "Get me", "I would like to buy", "Help me choose", "I need"))
    return {**record, "instruction": _wish(item, opener, wanted), "instruction_attributes": list(wanted)}


def _wish(item: _Item, opener: str, wanted: Sequence[str]) -> str:
    qualities, parts, uses = _sorted(item.shelf, wanted)
    words = [opener, *([", ".join(qualities)] if qualities else []), item.query]
    words += [f"with {_and(parts)}"] if parts else []
    words += [f"for {_and(uses)}"] if uses else []
    return " ".join(words)


def _and(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"


def _human_record(rng: Rng, item: _Item, asin: str) -> dict[str, Any]:
    """Return one entry of `items_human_ins`: a request as people type it, in lower case."""
    wanted = item.attributes[: rng.choice((1, 1, 2, 2, 3))]
    qualities, parts, uses = _sorted(item.shelf, wanted)
    options = {name: rng.choice(values) for name, values in item.options.items() if rng.per_cent(92)}
    values = [value.replace("/", " | ").lower() for value in options.values()]
    audience = f"{_POSSESSIVES[item.audience]} ".lower() if item.audience else ""
    noun = audience + (item.shelf.kind.query if rng.per_cent(50) else item.noun.lower())
    sentence = [rng.choice(_HUMAN_OPENINGS).format(noun=noun)]
    if qualities:
        sentence.append(rng.choice(("that should be {}", "it has to be {}", "something {}")).format(_and(qualities)))
    if parts:
        sentence.append(rng.choice(("with {}", "it must come with {}", "one that has {}")).format(_and(parts)))
    if uses:
        sentence.append(rng.choice(("for {}", "i want it for {}", "good for {}")).format(_and(uses)))
    for name, value in zip(options, values, strict=True):
        sentence.append(
            rng.choice(("in {v}", "{n} {v}", "the {n} should be {v}", "{v} please")).format(n=name, v=value)
        )
    return {
        "asin": asin,
        "instruction": ", ".join(sentence),
        "attributes": list(item.attributes),
        "options": [f"{name}: {value}" for name, value in zip(options, values, strict=True)],
        "instruction_attributes": list(wanted),
        "instruction_options": values,
        "assignment_id": "",
        "worker_id": "",
    }


_HUMAN_OPENINGS = (
    "i need {noun}",
    "looking for {noun}",
    "can you find me {noun}",
    "my old one broke, so i want {noun}",
    "i'd like {noun}",
    "a friend told me about {noun}",
    "hello, do you have {noun}",
    "it is time for {noun} again",
    "please get {noun}",
    "i promised my sister {noun}",
)
