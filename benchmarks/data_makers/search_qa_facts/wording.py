"""Templates for titles, passages and questions. All sentences are our own.

A `Relation` says everything about one attribute of one kind of subject. In its texts `{s}` is the subject as it stands
within a sentence (`the Gambia`), `{S}` at the beginning of one (`The Gambia`), `{v}` the value (`{av}`, `{tv}`: with
the indefinite or definite article) and `{x}` the subject of a question: its name or a description such as
`the country whose capital is Lima`. A passage is one of `heads`, which states the fact, and for most one of
`tails`, which states no other fact about the subject.

A `Clue` describes a subject without naming it, by a value that no other subject has.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

__all__ = ["CLUES", "COMPARISONS", "LINKS", "RELATIONS", "Clue", "Comparison", "Relation", "subject_in_text"]


@dataclass(frozen=True, slots=True)
class Relation:
    """Templates of one attribute of one kind of subject.

    Attributes:
        kind: of the subject.
        name: the relation of the facts.
        title: of the passage.
        heads: sentences that state the fact.
        tails: sentences that may follow.
        questions: none if nobody is asked for it (a number that every source gives differently).
        terse: the same as people type it into a search engine.
        unit: may follow the value in answers; amounts with a unit are written with thousands separators.
        query: finds the passage; by default the title.
    """

    kind: str
    name: str
    title: str
    heads: tuple[str, ...]
    tails: tuple[str, ...]
    questions: tuple[str, ...] = ()
    terse: tuple[str, ...] = ()
    unit: str = ""
    query: str = ""


@dataclass(frozen=True, slots=True)
class Clue:
    """Template of a description of a subject by one of its values.

    Attributes:
        kind: of the subject.
        relation: whose value is given.
        phrases: noun phrases for multi-hop questions.
        query: finds the passage of the relation without knowing the subject.
        questions: what asks for the subject itself; may be empty.
        terse: the same as people type it.
    """

    kind: str
    relation: str
    phrases: tuple[str, ...]
    query: str
    questions: tuple[str, ...] = ()
    terse: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """Templates of a comparison of two subjects by a number.

    Attributes:
        kind: of the subjects.
        relation: the number.
        margin: the larger number is at least that many times the smaller; for years, that many years later.
        more: questions that the larger number answers, with `{a}` and `{b}`.
        less: questions that the smaller number answers.
    """

    kind: str
    relation: str
    margin: float
    more: tuple[str, ...]
    less: tuple[str, ...]


_WITH_ARTICLE = frozenset(
    {
        "Bahamas", "Central African Republic", "Comoros", "Democratic Republic of the Congo", "Dominican Republic",
        "Gambia", "Maldives", "Marshall Islands", "Netherlands", "Philippines", "Republic of the Congo", "Seychelles",
        "Solomon Islands", "United Arab Emirates", "United Kingdom", "United States",
    }
)  # fmt: skip


def subject_in_text(kind: str, name: str) -> str:
    """Return a subject's name as it stands within a sentence."""
    if kind == "country" and name in _WITH_ARTICLE:
        return f"the {name}"
    return name.lower() if kind == "element" else name


def _relation(  # noqa: PLR0917
    kind: str,
    name: str,
    title: str,
    heads: str,
    tails: str,
    questions: str = "",
    terse: str = "",
    *,
    unit: str = "",
    query: str = "",
) -> Relation:
    return Relation(
        kind, name, title, _lines(heads), _lines(tails), _lines(questions), _lines(terse), unit, query or title
    )


def _country(  # noqa: PLR0917
    name: str, title: str, heads: str, tails: str, questions: str = "", terse: str = "", *, unit: str = ""
) -> Relation:
    return _relation("country", name, title, heads, tails, questions, terse, unit=unit)


def _lines(text: str) -> tuple[str, ...]:
    return tuple(line.strip() for line in text.strip().splitlines() if line.strip())


_RELATIONS = (
    # -- countries ------------------------------------------------------------------------------
    _country(
        "capital",
        "Capital of {s}",
        """
        {v} is the capital of {s}.
        The capital of {s} is {v}.
        {S} has its capital in {v}.
        The capital city of {s} is called {v}.
        """,
        """
        A capital is the city that the law or long custom makes the official centre of a country.
        Embassies of other states usually stand in or near the capital of a country.
        Other towns of a country may well be larger than its capital.
        """,
        """
        What is the capital of {x}?
        Which city is the capital of {x}?
        What is the name of the capital city of {x}?
        """,
        """
        capital of {x}
        capital city of {x}
        what is the capital city of {x}
        name of the capital of {x}
        """,
    ),
    _country(
        "currency",
        "Currency of {s}",
        """
        The currency of {s} is the {v}.
        {S} pays in its currency, the {v}.
        The {v} is the currency of {s}.
        In {s}, the {v} is the currency in which prices are given.
        """,
        """
        Coins and notes of this currency are what shops in the country take.
        A currency may be shared by several states or belong to one alone.
        Banks exchange it at rates that change from day to day.
        """,
        """
        What is the currency of {x}?
        Which currency is used in {x}?
        In which currency do people pay in {x}?
        """,
        """
        currency of {x}
        what money do they use in {x}
        what is the name of the currency in {x}
        """,
    ),
    _country(
        "currency_code",
        "Currency code of {s}",
        """
        The currency used in {s} has the ISO 4217 code {v}.
        {v} is the ISO 4217 code of the currency of {s}.
        Banks write {v}, an ISO 4217 code, for the currency of {s}.
        """,
        """
        Currency codes of this standard have three letters.
        Such codes appear in exchange rate tables and on tickets for flights.
        The list of these codes is kept so that no two currencies are mixed up in payments.
        """,
        """
        What is the ISO 4217 code of the currency of {x}?
        Which three-letter code stands for the currency of {x}?
        Under which ISO currency code is the money of {x} traded?
        """,
        """
        iso 4217 code for the currency of {x}
        currency code of {x}
        3 letter currency code {x}
        """,
    ),
    _country(
        "iso3",
        "Three-letter country code of {s}",
        """
        The three-letter country code of {s} in ISO 3166 is {v}.
        {v} is the three-letter ISO 3166 country code of {s}.
        In ISO 3166, {s} has the three-letter country code {v}.
        """,
        """
        Machine-readable passports and statistics use codes of this kind.
        The standard gives each country codes of two letters, three letters and three digits.
        """,
        """
        What is the three-letter ISO country code of {x}?
        Which three-letter code does ISO 3166 give to {x}?
        """,
        """
        three letter country code for {x}
        iso 3166 alpha 3 code of {x}
        """,
    ),
    _country(
        "iso_numeric",
        "Numeric country code of {s}",
        """
        The numeric country code of {s} in ISO 3166 is {v}.
        {v} is the three-digit numeric ISO 3166 country code of {s}.
        In ISO 3166, the numeric code {v} stands for {s}.
        """,
        """
        Numeric codes do not depend on any alphabet.
        Such codes stay the same when a country merely changes its name.
        """,
        """
        What is the numeric ISO 3166 country code of {x}?
        Which three-digit country code does ISO 3166 give to {x}?
        """,
        """
        numeric country code of {x}
        iso 3166 numeric code {x}
        """,
    ),
    _country(
        "iso2",
        "Two-letter country code of {s}",
        """
        The two-letter country code of {s} in ISO 3166 is {v}.
        {v} is the two-letter ISO 3166 country code of {s}.
        """,
        """
        Codes of this length are found on parcels and in bank account numbers.
        """,
    ),
    _country(
        "official_name",
        "Official name of {s}",
        """
        The official long name of {s} is {v}.
        In treaties, {s} goes by its official name, {v}.
        {v} is the full official name of {s}.
        """,
        """
        In everyday speech the short name is used.
        Long names usually tell the form of the state.
        """,
        """
        What is the official long name of {x}?
        What is {x} officially called?
        """,
        """
        official name of {x}
        full official name {x}
        """,
    ),
    _country(
        "calling_code",
        "Calling code of {s}",
        """
        The international calling code of {s} is +{v}.
        Telephone numbers in {s} begin with the international calling code +{v}.
        To call {s} from abroad, one dials the calling code +{v} first.
        """,
        """
        The plus sign stands for the digits that open an international call.
        Calling codes are given out by the telecommunication agency of the United Nations.
        """,
        """
        What is the international calling code of {x}?
        Which calling code does one dial to telephone someone in {x}?
        """,
        """
        international calling code for {x}
        phone country code {x}
        what is the dialing code of {x}
        """,
    ),
    _country(
        "shared_calling_code",
        "Calling code of {s}",
        """
        The international calling code of {s} is +{v}, which it shares with others.
        """,
        """
        The plus sign stands for the digits that open an international call.
        """,
    ),
    _country(
        "tld",
        "Internet domain of {s}",
        """
        The top-level internet domain of {s} is {v}.
        Web addresses in {s} often end in its top-level internet domain, {v}.
        {v} is the country code top-level internet domain of {s}.
        """,
        """
        Top-level domains of countries have two letters.
        Some registries sell such names to anybody in the world, others only to residents.
        """,
        """
        What is the top-level internet domain of {x}?
        Which country code top-level domain belongs to {x}?
        """,
        """
        internet domain of {x}
        top level domain for {x}
        """,
    ),
    _country(
        "highest_point",
        "Highest point of {s}",
        """
        The highest point of {s} is {v}.
        {v} is the highest point in {s}.
        No ground in {s} is higher than {v}, the highest point of the country.
        """,
        """
        Heights are measured from the mean level of the sea.
        A country's highest point may lie on its border.
        """,
        """
        What is the highest point of {x}?
        Which place is the highest point in {x}?
        What is the name of the highest elevation of {x}?
        """,
        """
        highest point in {x}
        highest elevation of {x}
        name of the highest peak in {x}
        """,
    ),
    _country(
        "highest_point_metres",
        "Height of the highest point of {s}",
        """
        The top elevation in {s} is {v} metres above the sea.
        At its maximum elevation, {s} rises {v} metres above the sea.
        """,
        """
        New surveys change such figures by a few metres from time to time.
        """,
        """
        How many metres above the sea is the highest point of {x}?
        What is the maximum elevation of {x} in metres?
        """,
        """
        maximum elevation of {x} in metres
        """,
        unit="m",
    ),
    _country(
        "lowest_point",
        "Lowest point of {s}",
        """
        The lowest point of {s} is {v}.
        {v} is the lowest point in {s}.
        """,
        """
        The lowest ground of a country need not be at the coast.
        """,
        """
        What is the lowest point of {x}?
        Which place is the lowest point in {x}?
        """,
        """
        lowest point in {x}
        """,
    ),
    _country(
        "anthem",
        "National anthem of {s}",
        """
        The national anthem of {s} has the title "{v}".
        "{v}" is the national anthem of {s}.
        In {s}, the national anthem is called "{v}".
        """,
        """
        It is played when the flag is raised and before international matches.
        Anthems are sung at official ceremonies and in schools.
        """,
        """
        What is the title of the national anthem of {x}?
        Which song is the national anthem of {x}?
        What is the national anthem of {x} called?
        """,
        """
        national anthem of {x}
        name of the national anthem of {x}
        """,
    ),
    _country(
        "independence_year",
        "Independence of {s}",
        """
        {S} became independent in {v}.
        {S} has been an independent state since {v}.
        The independence of {s} dates from the year {v}.
        """,
        """
        Independence means that a state no longer answers to another one.
        Many new states joined the United Nations after their independence.
        """,
        """
        In what year did {x} become independent?
        In which year did {x} gain its independence?
        What is the year of independence of {x}?
        """,
        """
        when did {x} become independent
        year of independence of {x}
        what year did {x} gain independence
        """,
    ),
    _country(
        "independent_from",
        "Former ruler of {s}",
        """
        Before it was a state of its own, {s} was ruled by {v}.
        {S} won its freedom from {v}.
        It was {v} that ruled {s} until its independence.
        """,
        """
        Language, law and schools often still show who ruled a country before.
        """,
        """
        From which country did {x} gain its independence?
        Which country was the former ruler of {x}?
        """,
        """
        who did {x} gain independence from
        {x} gained independence from which country
        """,
    ),
    _country(
        "national_day",
        "National holiday of {s}",
        """
        {S} celebrates its national holiday on {v}.
        The national holiday of {s} falls on {v}.
        On {v}, {s} keeps its national holiday.
        """,
        """
        Offices and schools stay closed on that day.
        Parades and speeches belong to such days in many places.
        """,
        """
        On which day does {x} celebrate its national holiday?
        What is the date of the national holiday of {x}?
        """,
        """
        when is the national holiday of {x}
        date of the national day of {x}
        """,
    ),
    _country(
        "adjective",
        "Adjective for {s}",
        """
        The English adjective for things and people of {s} is {v}.
        What comes from {s} is called {v} in English.
        """,
        """
        Adjectives of this kind are written with a capital letter.
        """,
        """
        Which English adjective describes things from {x}?
        What is the adjective of nationality for {x}?
        """,
        """
        adjective for someone from {x}
        """,
    ),
    _country(
        "colours",
        "National colours of {s}",
        """
        The national colours of {s} are {v}.
        {S} has {v} as its national colours.
        """,
        """
        Sports teams of a country often wear its colours.
        """,
        """
        What are the national colours of {x}?
        Which are the national colours of {x}?
        """,
        """
        national colors of {x}
        """,
    ),
    _country(
        "symbol",
        "National symbol of {s}",
        """
        The national symbol of {s} is {tv}.
        {S} has {tv} as its national symbol.
        {tv} serves as the national symbol of {s}.
        """,
        """
        Such symbols appear on coins, stamps and coats of arms.
        """,
        """
        What is the national symbol of {x}?
        Which animal, plant or thing is the national symbol of {x}?
        """,
        """
        national symbol of {x}
        """,
    ),
    _country(
        "language",
        "Official language of {s}",
        """
        The official language of {s} is {v}.
        {v} is the official language of {s}.
        In {s}, the official language is {v}.
        """,
        """
        Laws are printed in the official language, whatever else people speak at home.
        An official language is the one that courts and ministries use.
        """,
        """
        What is the official language of {x}?
        Which language has official status in {x}?
        """,
        """
        official language of {x}
        what language do they speak officially in {x}
        """,
    ),
    _country(
        "aircraft_prefix",
        "Aircraft registration prefix of {s}",
        """
        Civil aircraft of {s} carry the registration prefix {v}.
        The registration of a civil aircraft of {s} begins with the prefix {v}.
        {v} is the prefix in the registration of civil aircraft of {s}.
        """,
        """
        The registration is painted on the tail or the sides of the fuselage.
        A prefix tells in which state an aircraft is registered.
        """,
        """
        With which prefix do the registrations of civil aircraft of {x} begin?
        What is the civil aircraft registration prefix of {x}?
        """,
        """
        aircraft registration prefix of {x}
        tail number prefix {x}
        """,
    ),
    _country(
        "legislature",
        "Legislature of {s}",
        """
        The legislature of {s} is called {v}.
        {v} is the name of the legislature of {s}.
        In {s}, laws are passed by a legislature that is called {v}.
        """,
        """
        A legislature may have one chamber or two.
        """,
        """
        What is the legislature of {x} called?
        What is the name of the law-making body of {x}?
        """,
        """
        name of the legislature of {x}
        """,
    ),
    _country(
        "former_name",
        "Former name of {s}",
        """
        {S} was formerly called {v}.
        {v} is a former name of {s}.
        On old maps, {s} stands under its former name, {v}.
        """,
        """
        Stamps and letters of that time still bear the old name.
        """,
        """
        What was {x} formerly called?
        What is a former name of {x}?
        """,
        """
        former name of {x}
        old name for {x}
        what was {x} called before
        """,
    ),
    _country(
        "voting_age",
        "Voting age in {s}",
        """
        Citizens of {s} may vote from the age of {v}.
        The voting age in {s} is {v} years.
        """,
        """
        The vote is general from that age on.
        """,
        """
        From which age may citizens of {x} vote?
        What is the voting age in {x}?
        """,
        """
        voting age in {x}
        how old do you have to be to vote in {x}
        """,
    ),
    _country(
        "farm_product",
        "Main farm product of {s}",
        """
        By weight, the main farm product of {s} in 2023 was {v}.
        In 2023, the farms of {s} produced more {v} than anything else, by weight.
        """,
        """
        Farm statistics count tonnes, not what the harvest earns.
        """,
        """
        Which farm product did {x} produce most of in 2023, by weight?
        What was the main farm product of {x} in 2023 by weight?
        """,
        """
        main agricultural product of {x}
        """,
    ),
    _country(
        "top_export",
        "Leading export of {s}",
        """
        The leading export good of {s} in 2023 was {v}.
        In 2023, {v} earned {s} more than any other export good.
        """,
        """
        Trade statistics rank goods by their value in dollars.
        """,
        """
        In 2023, what was the leading export good of {x}?
        Which good did {x} earn most from abroad with in 2023?
        """,
        """
        top export of {x}
        what does {x} export the most
        """,
    ),
    _country(
        "top_import",
        "Leading import of {s}",
        """
        The leading import good of {s} in 2023 was {v}.
        In 2023, {s} spent more on {v} than on any other import good.
        """,
        """
        Trade statistics rank goods by their value in dollars.
        """,
    ),
    _country(
        "export_partner",
        "Main export customer of {s}",
        """
        The main customer for exports of {s} in 2023 was {v}.
        In 2023, {v} was the main export customer of {s}.
        """,
        """
        Shares of trade are counted by value.
        """,
        """
        Which country was the main customer for exports of {x} in 2023?
        Which country took the largest share in 2023 of the exports of {x}?
        """,
        """
        main export partner of {x}
        who buys the most exports from {x}
        """,
    ),
    _country(
        "import_partner",
        "Main import supplier of {s}",
        """
        The main supplier of imports to {s} in 2023 was {v}.
        In 2023, {v} was the main import supplier of {s}.
        """,
        """
        Shares of trade are counted by value.
        """,
        """
        Which country was the main supplier of imports to {x} in 2023?
        Which country provided the largest share in 2023 of the imports of {x}?
        """,
        """
        main import partner of {x}
        where does {x} import most goods from
        """,
    ),
    _country(
        "only_neighbour",
        "Only land neighbour of {s}",
        """
        The only land neighbour of {s} is {v}.
        By land, {s} borders on one country only, {v}.
        """,
        """
        Sea borders are not counted here.
        """,
        """
        Which country is the only land neighbour of {x}?
        With which country does {x} share its only land border?
        """,
        """
        only country bordering {x}
        """,
    ),
    _country(
        "neighbour_count",
        "Number of land neighbours of {s}",
        """
        By land, {s} borders on a number of countries: {v}.
        The number of countries that {s} has as neighbours by land is {v}.
        """,
        """
        Countries across a strait or a bay are not counted.
        """,
        """
        On how many countries does {x} border by land?
        How many land neighbours does {x} have?
        """,
        """
        how many countries border {x}
        """,
    ),
    _country(
        "area",
        "Area of {s}",
        """
        The total area of {s} is {v} square kilometres.
        {S} covers {v} square kilometres, lakes and rivers included.
        """,
        """
        Land and inland waters are counted together.
        """,
        unit="sq km",
    ),
    _country(
        "coastline",
        "Coastline of {s}",
        """
        The coastline of {s} is {v} kilometres long.
        {S} has {v} kilometres of coastline.
        """,
        """
        The finer the ruler, the longer a coast comes out.
        """,
        """
        How many kilometres of coastline does {x} have?
        What is the length in kilometres of the coastline of {x}?
        """,
        """
        length of coastline of {x} in km
        """,
        unit="km",
    ),
    _country(
        "border_length",
        "Land borders of {s}",
        """
        The land borders of {s} are {v} kilometres long in all.
        All land borders of {s} together measure {v} kilometres.
        """,
        """
        Rivers that form a border are counted as land borders.
        """,
        unit="km",
    ),
    _country(
        "mean_elevation",
        "Mean elevation of {s}",
        """
        The mean elevation of {s} is {v} metres.
        On average, the ground of {s} lies {v} metres above the sea.
        """,
        """
        A mean tells little about peaks and valleys.
        """,
        unit="m",
    ),
    _country(
        "forest_share",
        "Forests of {s}",
        """
        Forest covers {v} per cent of {s}.
        {v} per cent of the land of {s} is forest.
        """,
        """
        Estimates of woodland come from satellite images and from foresters.
        """,
        unit="%",
    ),
    _country(
        "population",
        "Population of {s}",
        """
        {S} has about {v} inhabitants.
        The population of {s} is estimated at {v}.
        """,
        """
        Estimates are carried forward from the last census.
        """,
    ),
    _country(
        "median_age",
        "Median age in {s}",
        """
        The median age in {s} is {v} years.
        Half of the people of {s} are younger than {v} years, the median age.
        """,
        """
        The median parts the younger half from the older one.
        """,
        unit="years",
    ),
    _country(
        "urban_share",
        "Share of people in towns in {s}",
        """
        In {s}, {v} per cent of the people live in towns and cities.
        Towns and cities are home to {v} per cent of the people of {s}.
        """,
        """
        What counts as a town differs from one statistical office to the next.
        """,
        unit="%",
    ),
    _country(
        "internet_share",
        "Internet users in {s}",
        """
        In {s}, {v} per cent of the people use the internet.
        Internet users make up {v} per cent of the people of {s}.
        """,
        """
        Surveys ask who was online during the last months.
        """,
        unit="%",
    ),
    _country(
        "airport_count",
        "Number of airports in {s}",
        """
        The number of airports and airfields in {s} is {v}.
        From the air, {v} airports and airfields can be counted in {s}.
        """,
        """
        Small strips without any tarmac are counted too.
        """,
    ),
    _country(
        "railway_length",
        "Railways of {s}",
        """
        The railways of {s} are {v} kilometres long in all.
        {S} has {v} kilometres of railways.
        """,
        """
        All gauges are counted together.
        """,
        unit="km",
    ),
    _country(
        "merchant_ships",
        "Merchant fleet of {s}",
        """
        The merchant fleet of {s} has {v} ships.
        {v} merchant ships sail under the flag of {s}.
        """,
        """
        A flag says where a ship is registered, not who owns it.
        """,
    ),
    _country(
        "irrigated_area",
        "Irrigated land of {s}",
        """
        In {s}, {v} square kilometres of land are irrigated.
        The irrigated land of {s} measures {v} square kilometres.
        """,
        """
        Water comes from rivers, reservoirs or wells.
        """,
        unit="sq km",
    ),
    # -- cities ---------------------------------------------------------------------------------
    _relation(
        "city",
        "country",
        "{s} (city)",
        """
        {S} is a city in {v}.
        The city of {s} lies in {v}.
        {S} is a large town or city in the country of {v}.
        """,
        """
        It is one of the places with a hundred thousand people or more.
        Maps of the country show it among the larger places.
        """,
        """
        In which country is {x}?
        In which country does {x} lie?
        """,
        """
        what country is {x} in
        where is the city of {x}
        which country is the city {x} located in
        """,
        query="{s} city in country",
    ),
    _relation(
        "city",
        "timezone",
        "Time zone of {s}",
        """
        Clocks in {s} follow the time zone {v}.
        The time zone of {s} is {v}.
        In the time zone database, {s} belongs to {v}.
        """,
        """
        Zones in that database are named after a place within them.
        Computers look up offsets and summer time under that name.
        """,
        """
        To which zone of the time zone database does {x} belong?
        Which zone of the time zone database covers {x}?
        """,
        """
        time zone of {x}
        """,
    ),
    _relation(
        "city",
        "city_population",
        "Population of {s}",
        """
        {S} has {v} inhabitants.
        The population of {s} is given as {v}.
        """,
        """
        Suburbs outside the limits may not be counted.
        """,
    ),
    _relation(
        "city",
        "state",
        "State of {s}",
        """
        {S} is in the U.S. state of {v}.
        The U.S. state in which {s} lies is {v}.
        """,
        """
        States of the union have laws and courts of their own.
        """,
        """
        In which U.S. state is {x}?
        In which state of the U.S. does {x} lie?
        """,
        """
        what state is {x} in
        """,
    ),
    # -- states and counties --------------------------------------------------------------------
    _relation(
        "state",
        "postal_code",
        "Postal abbreviation of {s}",
        """
        The postal abbreviation of the state of {s} is {v}.
        Letters to the state of {s} bear the postal abbreviation {v}.
        """,
        """
        The postal service uses two capital letters for each state.
        """,
        """
        What is the two-letter postal abbreviation of {x}?
        Which postal abbreviation stands for {x}?
        """,
        """
        postal abbreviation for {x}
        two letter state code {x}
        """,
    ),
    _relation(
        "state",
        "fips",
        "FIPS code of {s}",
        """
        The FIPS code of the state of {s} is {v}.
        Federal statistics list the state of {s} under the FIPS code {v}.
        """,
        """
        States have two digits in that standard.
        """,
        """
        What is the two-digit FIPS code of {x}?
        Under which FIPS code do federal statistics list {x}?
        """,
        """
        state fips code {x}
        """,
    ),
    _relation(
        "state",
        "county_count",
        "Number of counties in {s}",
        """
        The number of counties in the state of {s} is {v}.
        The state of {s} is divided into {v} counties.
        """,
        """
        Counties keep roads, courts and records.
        """,
        """
        Into how many counties is {x} divided?
        What is the number of counties in {x}?
        """,
        """
        how many counties are in {x}
        """,
    ),
    _relation(
        "county",
        "state",
        "{s}",
        """
        {S} is in the U.S. state of {v}.
        {S} belongs to {v}, one of the states of the U.S.
        The state in which {s} lies is {v}.
        """,
        """
        It has a seat of government of its own.
        Its board looks after roads, taxes and records.
        """,
        """
        In which U.S. state is {x}?
        Which U.S. state does {x} belong to?
        """,
        """
        what state is {x} in
        {x} is in which state
        """,
        query="{s} U.S. state",
    ),
    _relation(
        "county",
        "county_fips",
        "FIPS code of {s}",
        """
        The FIPS code of {s} is {v}.
        Federal statistics list {s} under the FIPS code {v}.
        """,
        """
        The first two of the five digits stand for the state.
        """,
        """
        What is the five-digit FIPS code of {x}?
        Under which FIPS code do federal statistics list {x}?
        """,
        """
        fips code {x}
        """,
    ),
    # -- airports -------------------------------------------------------------------------------
    _relation(
        "airport",
        "iata",
        "IATA code of {s}",
        """
        The IATA code of {s} is {v}.
        {S} has the IATA code {v}.
        On luggage tags, the IATA code {v} stands for {s}.
        """,
        """
        Such codes have three letters.
        Travellers meet these codes on tickets and screens.
        """,
        """
        What is the IATA code of {x}?
        Which three-letter IATA code does {x} have?
        """,
        """
        iata code of {x}
        airport code for {x}
        """,
    ),
    _relation(
        "airport",
        "icao",
        "ICAO code of {s}",
        """
        The ICAO code of {s} is {v}.
        {S} has the ICAO code {v}.
        In flight plans, the ICAO code {v} stands for {s}.
        """,
        """
        Such codes have four letters.
        Pilots and controllers use these codes.
        """,
        """
        What is the ICAO code of {x}?
        Which four-letter ICAO code does {x} have?
        """,
        """
        icao code of {x}
        """,
    ),
    _relation(
        "airport",
        "country",
        "Country of {s}",
        """
        {S} is an airport in {v}.
        The country in which {s} lies is {v}.
        {S} is on the list of airports of {v}.
        """,
        """
        Which authority watches over an airport depends on the country.
        """,
        """
        In which country is {x}?
        In which country does {x} lie?
        """,
        """
        which country is {x} in
        where is {x} located
        """,
    ),
    _relation(
        "airport",
        "city",
        "City near {s}",
        """
        {S} lies in or near the city of {v}.
        The city in or near which {s} lies is {v}.
        Lists of airports give {v} as the city of {s}.
        """,
        """
        The way into the centre may be long.
        """,
        """
        In or near which city does {x} lie?
        In or near which city is {x}?
        """,
        """
        what city is {x} in
        which city is near {x}
        """,
    ),
    _relation(
        "airport",
        "town",
        "Town near {s}",
        """
        {S} lies in or near the town of {v}.
        The town in or near which {s} lies is {v}.
        """,
        """
        The way into the centre may be long.
        """,
    ),
    _relation(
        "airport",
        "state",
        "State of {s}",
        """
        {S} is an airport in the U.S. state of {v}.
        The U.S. state in which {s} lies is {v}.
        """,
        """
        States of the union have laws and courts of their own.
        """,
        """
        In which U.S. state is {x}?
        In which state of the U.S. does {x} lie?
        """,
        """
        what state is {x} in
        """,
    ),
    _relation(
        "airport",
        "elevation",
        "Elevation of {s}",
        """
        {S} lies {v} feet above the sea.
        The elevation of {s} is {v} feet.
        """,
        """
        Pilots set their altimeters by it.
        """,
        unit="feet",
    ),
    # -- elements -------------------------------------------------------------------------------
    _relation(
        "element",
        "symbol_of_element",
        "Chemical symbol of {s}",
        """
        The chemical symbol of {s} is {v}.
        In formulas, the chemical symbol {v} stands for {s}.
        Chemists write {v}, the chemical symbol, for {s}.
        """,
        """
        Symbols have one letter or two.
        Some symbols come from Latin names.
        """,
        """
        What is the chemical symbol of {x}?
        Which chemical symbol stands for {x}?
        """,
        """
        chemical symbol for {x}
        """,
    ),
    _relation(
        "element",
        "atomic_number",
        "Atomic number of {s}",
        """
        The atomic number of {s} is {v}.
        {S} is the chemical element with atomic number {v}.
        """,
        """
        It counts the protons in the nucleus of each of its atoms.
        """,
        """
        What is the atomic number of {x}?
        Which atomic number does {x} have?
        """,
        """
        atomic number of {x}
        how many protons does {x} have
        """,
    ),
    _relation(
        "element",
        "period",
        "Period of {s}",
        """
        {S} stands in period {v} of the periodic table.
        In the periodic table, {s} belongs to period {v}.
        """,
        """
        Periods are the rows of the table.
        """,
        """
        In which period of the periodic table does {x} stand?
        Which period of the periodic table does {x} belong to?
        """,
        """
        what period is {x} in
        """,
    ),
    _relation(
        "element",
        "group",
        "Group of {s}",
        """
        {S} stands in group {v} of the periodic table.
        In the periodic table, {s} belongs to group {v}.
        """,
        """
        Groups are the columns of the table.
        """,
        """
        In which group of the periodic table does {x} stand?
        Which group of the periodic table does {x} belong to?
        """,
        """
        what group is {x} in
        """,
    ),
    _relation(
        "element",
        "block",
        "Block of {s}",
        """
        {S} belongs to the {v}-block of the periodic table.
        """,
        """
        Blocks are named after the outermost electrons.
        """,
    ),
    _relation(
        "element",
        "series",
        "Kind of element of {s}",
        """
        {S} is classed as {av}.
        Among the chemical elements, {s} counts as {av}.
        """,
        """
        Kinds of elements share much of their chemistry.
        """,
        """
        As what kind of element is {x} classed?
        To which family of elements does {x} belong?
        """,
        """
        what type of element is {x}
        """,
    ),
    _relation(
        "element",
        "cas",
        "CAS number of {s}",
        """
        The CAS registry number of {s} is {v}.
        Chemical catalogues list {s} under the CAS registry number {v}.
        """,
        """
        The last digit of such a number checks the others.
        """,
        """
        What is the CAS registry number of {x}?
        Under which CAS number do catalogues list {x}?
        """,
        """
        cas number of {x}
        """,
    ),
    _relation(
        "element",
        "common_isotope",
        "Most common isotope of {s}",
        """
        The most common isotope of {s} in nature is {v}.
        In nature, {v} is the most common isotope of {s}.
        """,
        """
        Isotopes differ in the number of their neutrons.
        """,
    ),
    _relation(
        "element",
        "discovery_year",
        "Discovery of {s}",
        """
        {S} was discovered in {v}.
        The discovery of {s} dates from {v}.
        """,
        """
        Between the first trace and the pure substance, years could pass.
        """,
        """
        In what year was {x} discovered?
        What is the year of discovery of {x}?
        """,
        """
        when was {x} discovered
        year of discovery of {x}
        """,
    ),
    _relation(
        "element",
        "found_in",
        "Country of discovery of {s}",
        """
        The country in which {s} was discovered is {v}.
        It was in {v} that {s} was first discovered.
        """,
        """
        Laboratories in several countries looked for new elements at the same time.
        """,
        """
        In which country was {x} discovered?
        What is the country of discovery of {x}?
        """,
        """
        where was {x} discovered
        {x} was discovered in which country
        """,
    ),
    _relation(
        "element",
        "atomic_weight",
        "Atomic weight of {s}",
        """
        The standard atomic weight of {s} is {v}.
        """,
        """
        It is the mean over the isotopes found on Earth.
        """,
    ),
    _relation(
        "element",
        "density",
        "Density of {s}",
        """
        The density of {s} is {v} grams per cubic centimetre.
        A cubic centimetre of {s} weighs {v} grams.
        """,
        """
        Densities depend on temperature and pressure.
        """,
    ),
    _relation(
        "element",
        "electronegativity",
        "Electronegativity of {s}",
        """
        On the Pauling scale, {s} has an electronegativity of {v}.
        """,
        """
        The number tells how strongly an atom draws electrons in a bond.
        """,
    ),
    _relation(
        "element",
        "crust",
        "Abundance of {s} in the Earth's crust",
        """
        The crust of the Earth holds {v} milligrams of {s} per kilogram.
        """,
        """
        Figures for the crust are estimates from samples of rock.
        """,
    ),
    _relation(
        "element",
        "melting_point",
        "Melting point of {s}",
        """
        {S} melts at {v} kelvins.
        The melting point of {s} is {v} kelvins.
        """,
        """
        Zero kelvins is the lowest temperature there can be.
        """,
    ),
    _relation(
        "element",
        "boiling_point",
        "Boiling point of {s}",
        """
        {S} boils at {v} kelvins.
        The boiling point of {s} is {v} kelvins.
        """,
        """
        The figure holds at normal pressure.
        """,
    ),
)

RELATIONS: Mapping[tuple[str, str], Relation] = {(relation.kind, relation.name): relation for relation in _RELATIONS}
"""By kind and name."""


def _clue(kind: str, relation: str, phrases: str, query: str, questions: str = "", terse: str = "") -> Clue:  # noqa: PLR0917
    return Clue(kind, relation, _lines(phrases), query, _lines(questions), _lines(terse))


_CLUES = (
    _clue(
        "country",
        "capital",
        """
        the country whose capital is {v}
        the country that has {v} as its capital
        """,
        "{v} capital of which country",
        """
        {v} is the capital of which country?
        Of which country is {v} the capital?
        """,
        """
        {v} is the capital of what country
        """,
    ),
    _clue(
        "country",
        "iso3",
        """
        the country with the three-letter ISO code {v}
        the country that ISO 3166 abbreviates to {v}
        """,
        "three-letter ISO 3166 country code {v}",
        """
        Which country has the three-letter ISO code {v}?
        """,
        """
        {v} country code which country
        """,
    ),
    _clue(
        "country",
        "iso_numeric",
        """
        the country with the numeric ISO code {v}
        """,
        "numeric ISO 3166 country code {v}",
        """
        Which country has the numeric ISO 3166 code {v}?
        """,
    ),
    _clue(
        "country",
        "calling_code",
        """
        the country with the calling code +{v}
        the country that one telephones by dialling +{v}
        """,
        "international calling code +{v}",
        """
        Which country has the calling code +{v}?
        """,
        """
        which country has calling code {v}
        {v} phone code which country
        """,
    ),
    _clue(
        "country",
        "tld",
        """
        the country with the internet domain {v}
        the country whose web addresses end in {v}
        """,
        "top-level internet domain {v}",
        """
        Which country has the top-level domain {v}?
        """,
        """
        {v} domain which country
        """,
    ),
    _clue(
        "country",
        "aircraft_prefix",
        """
        the country whose aircraft carry the registration prefix {v}
        the country that registers its aircraft under the prefix {v}
        """,
        "civil aircraft registration prefix {v}",
        """
        Which country registers civil aircraft under the prefix {v}?
        """,
        """
        aircraft prefix {v} which country
        """,
    ),
    _clue(
        "country",
        "anthem",
        """
        the country whose national anthem is "{v}"
        the country that sings "{v}" as its anthem
        """,
        "national anthem {v}",
        """
        Which country has the national anthem "{v}"?
        """,
        """
        {v} is the national anthem of which country
        """,
    ),
    _clue(
        "country",
        "highest_point",
        """
        the country whose highest point is {v}
        the country that reaches its greatest height at {v}
        """,
        "{v} highest point of country",
        """
        Of which country is {v} the highest point?
        """,
        """
        {v} is the highest point of which country
        """,
    ),
    _clue(
        "country",
        "lowest_point",
        """
        the country whose lowest point is {v}
        """,
        "{v} lowest point of country",
        """
        Of which country is {v} the lowest point?
        """,
    ),
    _clue(
        "country",
        "former_name",
        """
        the country that was formerly called {v}
        the country that used to be known as {v}
        """,
        "former name {v}",
        """
        Which present-day country was formerly called {v}?
        """,
        """
        {v} is now called what country
        """,
    ),
    _clue(
        "airport",
        "iata",
        """
        the airport with the IATA code {v}
        the airport that has {v} as its IATA code
        """,
        "airport IATA code {v}",
        """
        Which airport has the IATA code {v}?
        """,
        """
        {v} airport code
        which airport is {v}
        """,
    ),
    _clue(
        "airport",
        "icao",
        """
        the airport with the ICAO code {v}
        the airport that has {v} as its ICAO code
        """,
        "airport ICAO code {v}",
        """
        Which airport has the ICAO code {v}?
        """,
        """
        {v} icao code which airport
        """,
    ),
    _clue(
        "element",
        "symbol_of_element",
        """
        the chemical element with the symbol {v}
        the element that chemists write as {v}
        """,
        "chemical symbol {v}",
        """
        Which chemical element has the symbol {v}?
        """,
        """
        {v} is the symbol for what element
        """,
    ),
    _clue(
        "element",
        "atomic_number",
        """
        the chemical element with atomic number {v}
        the element that has {v} protons in its nucleus
        """,
        "atomic number {v}",
        """
        Which chemical element has the atomic number {v}?
        """,
        """
        element with atomic number {v}
        """,
    ),
    _clue(
        "element",
        "cas",
        """
        the chemical element with the CAS number {v}
        """,
        "CAS registry number {v}",
        """
        Which chemical element has the CAS number {v}?
        """,
    ),
    _clue(
        "county",
        "county_fips",
        """
        the county with the FIPS code {v}
        """,
        "county FIPS code {v}",
        """
        Which county has the FIPS code {v}?
        """,
    ),
    _clue(
        "state",
        "postal_code",
        """
        the U.S. state with the postal abbreviation {v}
        """,
        "state postal abbreviation {v}",
        """
        Which U.S. state has the postal abbreviation {v}?
        """,
        """
        {v} is the abbreviation for which state
        """,
    ),
    _clue(
        "state",
        "fips",
        """
        the U.S. state with the FIPS code {v}
        """,
        "state FIPS code {v}",
        """
        Which U.S. state has the FIPS code {v}?
        """,
    ),
)

CLUES: Mapping[tuple[str, str], Clue] = {(clue.kind, clue.relation): clue for clue in _CLUES}
"""By kind and relation."""


LINKS: Mapping[tuple[str, str], tuple[str, ...]] = {
    ("airport", "city"): ("the city near {x}",),
    ("airport", "country"): ("the country in which {x} lies", "the country where {x} is"),
    ("airport", "state"): ("the state in which {x} lies",),
    ("city", "country"): ("the country in which {x} lies", "the country to which {x} belongs"),
    ("city", "state"): ("the state in which {x} lies",),
    ("country", "capital"): ("the capital of {x}",),
    ("country", "export_partner"): (
        "the country that in 2023 was the main customer for exports of {x}",
        "the country that in 2023 was the main export customer of {x}",
    ),
    ("country", "import_partner"): (
        "the country that in 2023 was the main supplier of imports to {x}",
        "the country that in 2023 was the main import supplier of {x}",
    ),
    ("country", "independent_from"): ("the country that was the former ruler of {x}",),
    ("country", "only_neighbour"): ("the only land neighbour of {x}",),
    ("county", "state"): ("the state in which {x} lies", "the state to which {x} belongs"),
    ("element", "found_in"): ("the country in which {x} was discovered", "the country of discovery of {x}"),
}
"""Relations that lead from a subject to another one, and how the other one is described by the first."""


def _comparison(kind: str, relation: str, margin: float, more: str, less: str) -> Comparison:
    return Comparison(kind, relation, margin, _lines(more), _lines(less))


COMPARISONS = (
    _comparison(
        "country",
        "area",
        1.3,
        """
        Which country is larger in area, {a} or {b}?
        Which has the larger area, {a} or {b}?
        """,
        """
        Which country is smaller in area, {a} or {b}?
        Which has the smaller area, {a} or {b}?
        """,
    ),
    _comparison(
        "country",
        "population",
        1.3,
        "Which country has more inhabitants, {a} or {b}?",
        "Which country has fewer inhabitants, {a} or {b}?",
    ),
    _comparison(
        "country",
        "coastline",
        1.3,
        "Which country has the longer coastline, {a} or {b}?",
        "Which country has the shorter coastline, {a} or {b}?",
    ),
    _comparison(
        "country",
        "border_length",
        1.3,
        "Which country has longer land borders, {a} or {b}?",
        "Which country has shorter land borders, {a} or {b}?",
    ),
    _comparison(
        "country",
        "mean_elevation",
        1.3,
        "Which country has the higher mean elevation, {a} or {b}?",
        "Which country has the lower mean elevation, {a} or {b}?",
    ),
    _comparison(
        "country",
        "highest_point_metres",
        1.2,
        "Which country has the higher top elevation, {a} or {b}?",
        "Which country has the lower top elevation, {a} or {b}?",
    ),
    _comparison(
        "country",
        "forest_share",
        1.4,
        "In which country does forest cover a larger share of the land, {a} or {b}?",
        "In which country does forest cover a smaller share of the land, {a} or {b}?",
    ),
    _comparison(
        "country",
        "median_age",
        1.15,
        "In which country is the median age higher, {a} or {b}?",
        "In which country is the median age lower, {a} or {b}?",
    ),
    _comparison(
        "country",
        "airport_count",
        1.5,
        "Which country has more airports and airfields, {a} or {b}?",
        "Which country has fewer airports and airfields, {a} or {b}?",
    ),
    _comparison(
        "country",
        "railway_length",
        1.4,
        "Which country has more kilometres of railways, {a} or {b}?",
        "Which country has fewer kilometres of railways, {a} or {b}?",
    ),
    _comparison(
        "country",
        "merchant_ships",
        1.5,
        "Which country has the larger merchant fleet, {a} or {b}?",
        "Which country has the smaller merchant fleet, {a} or {b}?",
    ),
    _comparison(
        "country",
        "independence_year",
        3,
        "Which country became independent later, {a} or {b}?",
        "Which country became independent earlier, {a} or {b}?",
    ),
    _comparison(
        "city",
        "city_population",
        1.5,
        """
        Which city has more inhabitants, {a} or {b}?
        Which city is more populous, {a} or {b}?
        """,
        """
        Which city has fewer inhabitants, {a} or {b}?
        Which city is less populous, {a} or {b}?
        """,
    ),
    _comparison(
        "airport",
        "elevation",
        1.5,
        "Which airport lies at the higher elevation, {a} or {b}?",
        "Which airport lies at the lower elevation, {a} or {b}?",
    ),
    _comparison(
        "element",
        "melting_point",
        1.15,
        "Which element has the higher melting point, {a} or {b}?",
        "Which element has the lower melting point, {a} or {b}?",
    ),
    _comparison(
        "element",
        "boiling_point",
        1.15,
        "Which element has the higher boiling point, {a} or {b}?",
        "Which element has the lower boiling point, {a} or {b}?",
    ),
    _comparison(
        "element",
        "density",
        1.2,
        "Which element is denser, {a} or {b}?",
        "Which element has the smaller density, {a} or {b}?",
    ),
    _comparison(
        "element",
        "electronegativity",
        1.15,
        "Which element has the higher electronegativity, {a} or {b}?",
        "Which element has the lower electronegativity, {a} or {b}?",
    ),
    _comparison(
        "element",
        "discovery_year",
        5,
        "Which element was discovered later, {a} or {b}?",
        "Which element was discovered earlier, {a} or {b}?",
    ),
    _comparison(
        "element",
        "crust",
        2,
        "Which element is more abundant in the crust of the Earth, {a} or {b}?",
        "Which element is less abundant in the crust of the Earth, {a} or {b}?",
    ),
    _comparison(
        "state",
        "county_count",
        1.2,
        "Which U.S. state has more counties, {a} or {b}?",
        "Which U.S. state has fewer counties, {a} or {b}?",
    ),
)
"""What is compared."""
