"""Exclusion lists: facts that people or sources disagree about.

Places that two states claim, their neighbourhood included, so that no fact says whose a place is; and facts that
a source gives otherwise than the world does (an outdated currency, a royal anthem in place of the national one).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

__all__ = ["LEFT_OUT", "NOT_COUNTRIES", "is_contested", "is_withdrawn"]

NOT_COUNTRIES = frozenset({"AQ", "CK", "EH", "FK", "GS", "IO", "NU", "PS", "TW", "XK"})
"""ISO codes of territories whose status is contested, or whose independence is a matter of words."""


class _Area(NamedTuple):
    countries: frozenset[str] | None
    south: float
    north: float
    west: float
    east: float


def _area(countries: str, south: float, north: float, west: float, east: float) -> _Area:
    return _Area(frozenset(countries.split()) if countries else None, south, north, west, east)


# Boxes in degrees, drawn wide: a few uncontested towns nearby are lost. No countries: whoever is said to be there.
_AREAS = (
    _area("UA", 44, 50, 32, 40.5),  # Crimea, Donbas and the coast
    _area("RU", 44, 46.3, 32, 36.8),
    _area("IN PK CN", 32.3, 37.2, 73.4, 80.5),  # Kashmir
    _area("IN CN", 26.8, 29.6, 91.5, 97.5),  # Arunachal Pradesh
    _area("MA", 20, 27.7, -18, -8),  # Western Sahara
    _area("IL SY", 32.6, 33.4, 35.55, 36.1),  # Golan
    _area("IL", 31.3, 32.6, 34.9, 35.6),  # Jerusalem and the West Bank
    _area("CY", 35.05, 35.8, 32.5, 34.7),  # the north of Cyprus
    _area("GE", 42.4, 43.7, 39.9, 42.1),  # Abkhazia
    _area("GE", 42.0, 42.8, 43.3, 44.7),  # South Ossetia
    _area("MD", 46.3, 48.3, 28.9, 30.3),  # Transnistria
    _area("AZ AM", 39.1, 40.4, 46.0, 47.3),  # Karabakh
    _area("SO", 8, 11.6, 42.5, 49.2),  # Somaliland
    _area("EG SD", 21.5, 23.2, 33, 37.2),  # Halaib
    _area("GY", 1, 8.6, -61.5, -58.2),  # Essequibo
    _area("RU JP", 43.3, 46, 145.3, 150),  # Kuril islands
    _area("ES", 35.1, 36, -5.5, -2.8),  # Ceuta, Melilla
    _area("", 6.5, 17.5, 110.8, 117.1),  # South China Sea
    _area("SD SS", 9.2, 10.9, 27.7, 29.4),  # Abyei
    _area("RS", 41.8, 43.3, 20.0, 21.8),  # Kosovo
)


def is_contested(country: str, latitude: float, longitude: float) -> bool:
    """Return whether a place lies in a territory that more than one state claims."""
    return any(
        (area.countries is None or country in area.countries)
        and area.south <= latitude <= area.north
        and area.west <= longitude <= area.east
        for area in _AREAS
    )


def is_withdrawn(question: Mapping[str, Any]) -> bool:
    """Return whether a question of the first release has two answers that can be defended.

    Where an element was discovered depends on what counts: where the discoverer worked, came from, or where the mineral
    was dug. A lanthanide or an actinide is a rare earth or an inner transition metal too.
    """
    if "found_in" in question["id"]:
        return True
    return "series" in question["id"] and bool({"lanthanide", "actinide"}.intersection(question["golden_answers"]))


_ROYAL = "the source gives the royal anthem"
_NOT_A_FORMER_NAME = "not a former name of that country alone"
_NO_ONE_YEAR = "historians give other years too"
_UNSETTLED = "chemists disagree"
_UNSETTLED_KINDS = "At Cd Cn Fl Hg Lr Lu Lv Mc Nh Og Po Ts Zn"
LEFT_OUT: Mapping[tuple[str, str], str] = {
    **{(f"country/{iso}", "anthem"): _ROYAL for iso in ("DK", "LU", "NO", "SE", "TH")},
    **{(f"country/{iso}", "former_name"): _NOT_A_FORMER_NAME for iso in ("CI", "DE", "EC", "IL", "LB", "NZ", "PK")},
    ("country/AG", "highest_point"): "renamed twice",
    ("country/AT", "anthem"): "names nothing",
    ("country/BA", "aircraft_prefix"): "outdated",
    ("country/AF", "anthem"): "changed with the government, which is contested",
    ("country/AF", "national_day"): "changed with the government, which is contested",
    ("country/BG", "currency"): "the euro came in 2026, after the sources",
    ("country/ES", "anthem"): "better known under another name",
    **{(f"country/{iso}", "independence_year"): _NO_ONE_YEAR for iso in ("IT", "KP", "KR", "NL", "VA")},
    **{(f"country/{iso}", "independence_date"): _NO_ONE_YEAR for iso in ("IT", "KP", "KR", "NL", "VA")},
    ("country/IL", "area"): "depends on contested ground",
    ("country/IL", "capital"): "contested",
    ("country/IL", "highest_point"): "lies on contested ground",
    ("country/IL", "highest_point_metres"): "lies on contested ground",
    ("country/PK", "highest_point"): "lies on contested ground",
    ("country/PK", "highest_point_metres"): "lies on contested ground",
    ("country/UA", "area"): "depends on contested ground",
    ("country/UA", "coastline"): "depends on contested ground",
    ("country/PT", "anthem"): "misspelt in the source",
    ("country/SY", "anthem"): "changed with the government",
    ("country/SY", "symbol"): "changed with the government",
    ("country/SY", "national_day"): "changed with the government",
    ("country/AF", "symbol"): "changed with the government, which is contested",
    ("country/IR", "language"): "the source runs two names together",
    ("country/ML", "language"): "changed after the source",
    ("country/MM", "official_name"): "changed with the government, which is contested",
    ("country/MA", "area"): "depends on contested ground",
    ("country/MA", "coastline"): "depends on contested ground",
    **{(f"element/{symbol}", "series"): _UNSETTLED for symbol in _UNSETTLED_KINDS.split()},
    **{(f"element/{symbol}", "block"): _UNSETTLED for symbol in ("Ac", "La", "Lr", "Lu")},
    **{(f"element/{symbol}", "group"): _UNSETTLED for symbol in ("Ac", "La", "Lr", "Lu")},
    ("element/Nd", "discovery_year"): "wrong in the source (separated in 1885)",
    ("element/Pt", "discovery_year"): "known long before in the Americas",
    ("element/Pt", "found_in"): "known long before in the Americas",
    ("element/Te", "found_in"): "the borders have moved",
    ("element/Ru", "found_in"): "the borders have moved",
    ("element/No", "discovery_year"): "claimed by three laboratories",
    ("element/No", "found_in"): "claimed by three laboratories",
    ("element/Lr", "discovery_year"): "claimed by two laboratories",
    ("element/Lr", "found_in"): "claimed by two laboratories",
}
"""Single facts that are dropped, each with the reason."""
