"""Search terms: equal to the recorded ones of Lucene's English analyzer, and quick whatever the text."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.bm25 import analyzer
from sdar_envs.bm25.analyzer import MAX_TOKEN_UNITS, Terms, analyze, stem, term, tokenize

DATA = Path(__file__).parents[1] / "webshop" / "data"


def recorded():
    with gzip.open(DATA / "lucene_tokens.jsonl.gz", "rt", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_all_recorded_strings():
    rows = recorded()
    assert len(rows) == 3316
    assert [row for row in rows if analyze(row["text"]) != row["tokens"]] == []


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("Wi-Fi", ["wi", "fi"]),
        ("100,000 t.v. color:black o'neill's c++ usb_c", ["100,000", "t.v", "color:black", "o'neil", "c", "usb_c"]),
        ("the CAT's and a fox\uff07S", ["cat", "fox"]),
        ("_ __ _a 1_", ["_a", "1_"]),
        ("\u0130I \u039f\u03a3", ["ii", "\u03bf\u03c3"]),
        ("\ud800a\udc00", []),
        ("\ud800cat\udc00", ["cat"]),
    ],
)
def test_examples(text, terms):
    assert analyze(text) == terms


# Recorded with Lucene 8.11.0, like the files: what Unicode's annex and Lucene's grammar do with Hebrew quotes.
@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("\u05d0'", ["\u05d0'"]),
        ("\u05d0''", ["\u05d0'"]),
        ('\u05d0"\u05d1', ['\u05d0"\u05d1']),
        ('\u05d0"\u05d1"\u05d2', ['\u05d0"\u05d1', "\u05d2"]),
        ("\u05d0\"\u05d1'\u05d2", ['\u05d0"\u05d1', "\u05d2"]),
        ("\u05d0a'", ["\u05d0a"]),
        ("\u05d0\u05d1'1", ["\u05d0\u05d1'1"]),
        ('\u05d0"_\u05d1', ["\u05d0", "_\u05d1"]),
        ('\u05d0:\u05d1"\u05d2', ["\u05d0:\u05d1", "\u05d2"]),
        ("\u05d0'\u05d0\"\u05d1'", ["\u05d0'\u05d0\"\u05d1"]),
    ],
)
def test_hebrew_quotes(text, terms):
    assert analyze(text) == terms


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        # By hand from the algorithm: suffix, measure of what stands before it, result.
        ("caresses", "caress"),  # sses -> ss
        ("feed", "feed"),  # eed, m(f) = 0
        ("agreed", "agre"),  # eed -> ee, m(agr) = 1; then the final e goes, as m(agr) = 1 and "agr" is no c-v-c
        ("hopping", "hop"),  # double consonant
        ("falling", "fall"),  # but not l, s, z
        ("filing", "file"),  # m = 1 and c-v-c
        ("sky", "sky"),  # no vowel before the y
        ("happily", "happili"),
        ("analogies", "analog"),  # logi -> log, Porter's addition
        ("possibly", "possibl"),  # bli -> ble, his other one; then the final e goes
        ("adoption", "adopt"),  # ion after t
        ("million", "million"),  # not after l
        ("controlling", "control"),  # ll -> l, m > 1
        ("is", "is"),  # two letters
        ("yyyy", "yyyi"),  # y after a consonant is a vowel, y after a vowel a consonant
    ],
)
def test_stems(word, expected):
    assert stem(word) == expected


def test_tokens_are_cut_at_255_units():
    assert analyze("x" * 600) == ["x" * 255, "x" * 255, "x" * 90]
    assert [len(word) for word in analyze("\U00010428" * 300)] == [127, 127, 46]
    # The mark needs a letter within the window.
    assert analyze("x" * 254 + ".yz") == ["x" * 254, "yz"]
    assert analyze("x" * 253 + ".yz") == ["x" * 253 + ".y", "z"]
    # Underscores are skipped one by one until a letter is near enough.
    assert analyze("_" * 300 + "b") == ["_" * 254 + "b"]


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=80))
def test_any_text(text):
    terms = analyze(text)
    assert all(terms)
    assert all(len(token.encode("utf-16-le")) <= 2 * MAX_TOKEN_UNITS for token in terms)
    assert terms == [word for word in map(term, tokenize(text)) if word]
    # Nothing reaches across a space, whichever side is ASCII.
    assert analyze(f"{text} plain {text}") == [*terms, "plain", *terms]


@settings(max_examples=300, deadline=None)
@given(
    st.text(alphabet=st.characters(max_codepoint=127), max_size=60) | st.text(alphabet="aZ9_.:,;'\"-# ", max_size=60)
)
def test_the_quick_path_for_ascii_is_the_general_one(text):
    assert analyze(text) == [word for word in map(term, analyzer._tokenize_unicode(text)) if word]


# Repeated: marks that might begin a token, tokens that might go on, joiners without anything to join.
HOSTILE = (
    r"_ _. a a. a: ' \x00 \x01\x7f y 1, # ing \u200d \u0301 \ufe0f \u200d\u0301 #\u200d \xe9_ \u05d0' \u05d0\" \u30ab_"
)
PICTURES = r"\ud800 \u2764\u200d \U0001f1fa \U0001f468\u0301"


@pytest.mark.parametrize("unit", f"{HOSTILE} {PICTURES}".split())
def test_hostile_text_takes_linear_time(unit):
    text = (unit.encode().decode("unicode_escape") * 100_000)[:100_000]
    start = time.process_time()
    analyze(text)
    analyze(f"{text}a")
    assert time.process_time() - start < 5


def test_the_table_is_read_when_it_is_needed():
    code = (
        "import sys, sdar_envs; assert not [m for m in sys.modules if m.startswith('sdar_envs.webshop.')];"
        "from sdar_envs.bm25 import analyzer as a; a.analyze('plain text');"
        "assert a._grammar.cache_info().currsize == 0; a.analyze('\\u00e9');"
        "assert a._grammar.cache_info().currsize == 1"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_cache_of_terms_that_is_full_is_emptied_and_gives_the_same_terms():
    terms = Terms(3)
    text = "the rivers flow, rivers flooded the towns and flowed on"
    for _ in range(2):
        assert analyze(text, terms) == analyze(text)
        assert len(terms) <= 3
