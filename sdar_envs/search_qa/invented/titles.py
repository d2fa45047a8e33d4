"""Invented titles of books and films: common words in patterns of three or more, which no known title has."""

from __future__ import annotations

from collections.abc import Collection

from sdar_envs.rng import Rng

__all__ = ["make_titles"]

_QUALITIES = (
    "Amber", "Barefoot", "Blind", "Borrowed", "Brass", "Broken", "Copper", "Crooked", "Drowned", "Eleventh", "Empty",
    "Faithful", "Forgotten", "Frozen", "Gilded", "Glass", "Hollow", "Idle", "Iron", "Left-handed", "Linen", "Modest",
    "Narrow", "Nameless", "Paper", "Patient", "Quiet", "Restless", "Salt", "Second", "Sleeping", "Stolen", "Thirteenth",
    "Upper", "Wooden",
)  # fmt: skip
_THINGS = (
    "Almanac", "Anchor", "Apprentice", "Aqueduct", "Baker", "Balcony", "Barge", "Beekeeper", "Bell", "Bridge", "Button",
    "Candle", "Cellar", "Clock", "Compass", "Cooper", "Daughter", "Ferry", "Fountain", "Furnace", "Glove", "Harbour",
    "Innkeeper", "Kettle", "Ladder", "Lantern", "Lighthouse", "Loom", "Magpie", "Mirror", "Orchard", "Organist", "Oven",
    "Pilgrim", "Plough", "Postman", "Quarry", "Saddle", "Sailmaker", "Shadow", "Spindle", "Staircase", "Tailor",
    "Thimble", "Toll", "Umbrella", "Vineyard", "Warden", "Weathercock", "Windmill",
)  # fmt: skip
_TITLES = (
    "The {q} {t} and the {u}", "The {t} of the {q} {u}", "{a} {q} {t} for the {u}", "The {u} beneath the {q} {t}",
    "The {t}, the {u} and the {v}", "The {q} {t} of the {r} {u}",
)  # fmt: skip


def make_titles(rng: Rng, count: int, taken: Collection[str] = ()) -> list[str]:
    """Return so many different titles, none of them among those that are taken."""
    titles: dict[str, None] = {}
    while len(titles) < count:
        words = {name: rng.choice(_QUALITIES) for name in "qr"} | {name: rng.choice(_THINGS) for name in "tuv"}
        if len(set(words.values())) == len(words):
            article = "An" if words["q"][0] in "AEIOU" else "A"
            title = rng.choice(_TITLES).format(**words, a=article)
            if title not in taken:
                titles[title] = None
    return list(titles)
