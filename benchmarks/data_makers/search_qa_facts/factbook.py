"""Parsers for fields of the World Factbook, whose entries are text for people to read.

Each `parse_*` takes the text of one field and returns the value if the text has exactly the expected form, else None:
a fact that would need interpretation is not taken. No sentence of the Factbook goes any further than this.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = [
    "Anthem",
    "Currency",
    "Independence",
    "Named",
    "NationalDay",
    "Point",
    "clean",
    "field",
    "parse_adjective",
    "parse_amount",
    "parse_anthem",
    "parse_capital",
    "parse_colours",
    "parse_commodity",
    "parse_currency",
    "parse_former_name",
    "parse_independence",
    "parse_language",
    "parse_legislature",
    "parse_long_name",
    "parse_national_day",
    "parse_neighbours",
    "parse_partner",
    "parse_point",
    "parse_prefix",
    "parse_symbol",
    "parse_voting_age",
]

_TAG = re.compile(r"<[^>]*>")
_DAY = r"\d{1,2} (?:January|February|March|April|May|June|July|August|September|October|November|December)"  # "28 July"
_NAME = r"[^\W\d_][\w'’. /-]*[\w.]"


class Named(NamedTuple):
    """A name, and other ways to write it."""

    name: str
    aliases: tuple[str, ...] = ()


class Point(NamedTuple):
    """A named place and its elevation in metres."""

    name: str
    aliases: tuple[str, ...]
    metres: str


class Anthem(NamedTuple):
    """The title of an anthem and its English translation (empty if it is in English)."""

    title: str
    translation: str


class Independence(NamedTuple):
    """The date of independence, its year, and from whom (empty if not said plainly)."""

    date: str
    year: str
    former_ruler: str


class NationalDay(NamedTuple):
    """The name of a national holiday and its date."""

    name: str
    date: str


class Currency(NamedTuple):
    """The plural of a currency and its ISO code."""

    plural: str
    code: str


def field(entry: Mapping[str, Any], *path: str) -> str:
    """Return the clean text of a field, empty if the entry has none."""
    found: Any = entry
    for key in (*path, "text"):
        if not isinstance(found, dict) or key not in found:
            return ""
        found = found[key]
    return clean(found) if isinstance(found, str) else ""


def clean(text: str) -> str:
    """Return text without tags, entities and superfluous spaces."""
    return " ".join(html.unescape(_TAG.sub(" ", html.unescape(text))).replace("\xa0", " ").split())


def _is_name(text: str) -> bool:
    return bool(re.fullmatch(_NAME, text)) and text[0].isupper()


def parse_long_name(text: str) -> str | None:
    """`Republic of Peru`."""
    return text if text and text != "none" and re.fullmatch(r"[\w' -]+", text) else None


def parse_capital(text: str) -> Named | None:
    """`Tripoli (Tarabulus)`: one town, perhaps with its other name or where it lies."""
    found = re.fullmatch(rf"({_NAME})(?: \(([^()]*)\))?", text)
    if not found or " in " in found[1]:
        return None
    other = found[2] or ""
    kiev = re.match(r"(\w+) is the transliteration", other)
    if kiev:
        return Named(found[1], (kiev[1],))
    if not other or other.startswith(("on ", "located ")) or other == "city":
        return Named(found[1])
    others = tuple(re.split(r", |/", other))
    return Named(found[1], others) if all(map(_is_name, others)) else None


def parse_point(text: str) -> Point | None:
    """`Cerro Catedral 514 m`, perhaps with another name or a remark in parentheses."""
    found = re.fullmatch(
        r"([^()\d;,/]+?)(?: \(([^()]*)\))?(?: \([^()]*\))? (-?[\d,]+)(?:\.\d)?(?: m)?(?: \(([^()]*)\))?", text
    )
    if not found:
        return None
    name = found[1].strip()
    if not name[0].isupper() or re.search(r"\b(on|of the|unnamed|near|range|elevation|delta|and)\b", name):
        return None
    if re.search(r"eight|location", name):
        return None
    other = found[2] or ""
    aliases = tuple(re.split(r" or |, ", other)) if other and all(map(_is_name, re.split(r" or |, ", other))) else ()
    if other and not aliases and not re.match(r"(highest|lowest|located|a volcano|Kurdish)", other):
        return None
    return Point(name, aliases, found[3].replace(",", ""))


def parse_anthem(text: str) -> Anthem | None:
    """`"Kassaman" (We Pledge)`: one title, perhaps translated."""
    found = re.fullmatch(r'["“]([^"“”]+)["”] ?(?:\(([^()"“”\[\]]+)\))?', text)
    if not found or found[1].startswith("God Save the King"):
        return None
    title, translation = found[1].strip(" ,"), found[2] or ""
    # "National Hymn" names nothing.
    if re.search(r"(?i)\b(national anthem|himno nacional|hino nacional|state anthem|inno nazionale|hymne)", title):
        return None
    if re.search(r"(?i)(national|state) (anthem|hymn)", translation):
        return None
    return Anthem(title, translation)


def parse_independence(text: str) -> Independence | None:
    """`28 July 1821 (from Spain)`: one date and no other."""
    found = re.fullmatch(rf"({_DAY} (\d{{4}}))(?: \(from (?:the )?([^();]+)\))?", text)
    if not found:
        return None
    return Independence(found[1], found[2], found[3] or "")


def parse_national_day(text: str) -> NationalDay | None:
    """`Republic Day, 26 January (1950)`: one holiday on one day."""
    found = re.fullmatch(rf"([A-Z][\w' -]+?)(?: \([^();]*\))?, ({_DAY})(?: \(\d{{4}}\))?", text)
    # The Factbook writes people's names in capitals.
    if not found or re.search(r"[A-Z]{3}|irthday", text):
        return None
    return NationalDay(found[1], found[2])


def parse_currency(text: str) -> Currency | None:
    """`Algerian dinars (DZD) per US dollar -`."""
    found = re.fullmatch(r"([\w' ]+) \(([A-Z]{3})\) per US dollar.*", text)
    return Currency(found[1], found[2]) if found else None


def parse_adjective(text: str) -> Named | None:
    """`Lao or Laotian`: one adjective, perhaps with a second form."""
    parts = text.split(" or ")
    if text in ("none", "NA", "") or not all(re.fullmatch(r"[A-Z][A-Za-z' -]+", part) for part in parts):
        return None
    return Named(parts[0], tuple(parts[1:]))


def parse_symbol(text: str) -> str | None:
    """`Andean condor`: one symbol of a few words."""
    text = re.sub(r" \([^()]*\)$", "", text)
    return text if re.fullmatch(r"[A-Za-z' -]+", text) and len(text.split()) <= 3 else None


def parse_colours(text: str) -> tuple[str, ...] | None:
    """`green, white, red`."""
    colours = tuple(text.split(", "))
    return colours if len(colours) > 1 and all(re.fullmatch(r"[a-z ]+", colour) for colour in colours) else None


def parse_language(text: str) -> str | None:
    """Return the one language that is called official; None if there are several or it is qualified."""
    if len(re.findall(r"\bofficial\b", text)) != 1:
        return None
    found = re.search(r"(?:^|, )([A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)?) \(official\)", text)
    return found[1] if found else None


def parse_prefix(text: str) -> str | None:
    """`OB`, what the registration of aircraft begins with."""
    return text if re.fullmatch(r"[A-Z0-9]{1,3}", text) else None


def parse_legislature(text: str) -> Named | None:
    """`National Assembly (Bunge)`."""
    found = re.fullmatch(r"([A-Z][\w' -]+?)(?: \(([^()]+)\))?", text)
    if not found or re.search(r" - |Transition|Council|^Parlement|ture nationale| of Kenya|Guyana|Vatican", found[1]):
        return None
    aliases = tuple(re.split(r"/| or ", found[2])) if found[2] and _is_name(found[2]) else ()
    return Named(found[1], tuple(alias.strip() for alias in aliases))


def parse_former_name(text: str) -> str | None:
    """`Bechuanaland`: one former name that is not a form of government."""
    if re.search(r"Republic|Kingdom|Federation|Union|Soviet|State|Empire|District|Trust", text):
        return None
    return text if re.fullmatch(r"[A-Z][\w' -]+", text) and len(text.split()) <= 4 else None


def parse_voting_age(text: str) -> str | None:
    """`18 years of age; universal`."""
    found = re.fullmatch(r"(\d\d) years of age[;,] universal(?: and compulsory)?", text)
    return found[1] if found else None


def parse_commodity(text: str) -> str | None:
    """Return the first of a ranking of 2023."""
    found = re.fullmatch(r"([a-z][a-z ]+), .* \(2023\)", text)
    return found[1] if found else None


def parse_partner(text: str) -> str | None:
    """`Spain 46%, Portugal 9%, ... (2023)`: the first, if it is clearly the first."""
    found = re.fullmatch(r"([A-Z][A-Za-z.' -]+) (\d+)%, [^%]*? (\d+)%.* \(2023\)", text)
    return found[1] if found and int(found[2]) >= int(found[3]) + 3 else None


def parse_neighbours(text: str) -> tuple[str, ...] | None:
    """`Chile 168 km; Ecuador 1,529 km`: the names, in the order of the text; empty if there are none."""
    names = []
    for part in filter(None, re.split(r"; ", text)):
        found = re.fullmatch(r"([A-Z][A-Za-z.'() -]+?) [\d,.]+ km(?: \([^()]*\))?", part)
        if not found:
            return None
        names.append(found[1])
    return tuple(names)


def parse_amount(text: str, unit: str) -> str | None:
    """Return the number of `1,285,216 sq km` or `33.1% (2023 est.)` in plain digits; None if it is qualified."""
    found = re.match(rf"(-?\d[\d,]*(?:\.\d+)?)( million)? ?{re.escape(unit)}(?= \(|$| of )", text)
    if not found or "note" in text or ";" in text:
        return None
    digits = found[1].replace(",", "")
    if found[2]:
        whole, _, rest = digits.partition(".")
        digits = (whole + rest.ljust(6, "0")).lstrip("0")
    return digits
