"""The score by hand, and the quirks one by one. That it is the original's is in test_golden."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.webshop.catalog.loading import build_catalog
from sdar_envs.webshop.goals import NO_LIMIT, Goal
from sdar_envs.webshop.nouns import KnownNouns, WordNouns
from sdar_envs.webshop.reward import COLORS, matched_options, normalize_color, score_purchase, similarity

NOUNS = KnownNouns(
    {
        "Red Wool Hat": ["wool", "hat"],
        "Warm Hat for Men": ["hat", "men"],
        "Soft Things": ["things"],
        "Eleven": [*"abcdefghij", "hat"],
        "Buy": [],
    }
)


def product(title="Red Wool Hat", *, query="hats", path="Clothing › Hats", attributes=("warm", "soft"), **changes):
    record = {
        "asin": "B000000001",
        "name": title,
        "full_description": "Knitted by hand.",
        "small_description": ["machine washable", "with a BOBBLE"],
        "pricing": "$20",
        "customization_options": {},
        "category": "fashion",
        "query": query,
        "product_category": path,
        **changes,
    }
    return build_catalog([record], {"B000000001": {"attributes": list(attributes)}}).products[0]


def goal(wanted=None, *, attributes=("warm", "soft"), options=(("color", "red"), ("size", "small")), limit=30.0):
    return Goal(0, wanted or product(), "Find me a hat", attributes, options, limit)


def buy(bought=None, options=None, price=20.0, quirks="original", wanted=None):
    options = {"color": "red", "size": "small"} if options is None else options
    return score_purchase(bought or product(), options, price, wanted or goal(), NOUNS, quirks=quirks)


def test_a_full_score():
    purchase = buy()
    assert purchase.score == 1.0
    assert purchase.breakdown == {
        "r_type": 1.0,
        "r_att": 1.0,
        "w_att": 0.4,
        "query_match": True,
        "category_match": True,
        "title_score": 1.0,
        "r_option": 1.0,
        "w_option": 0.4,
        "r_price": True,
        "w_price": 0.2,
    }


@pytest.mark.parametrize(
    ("arguments", "score"),
    [
        # Five parts: two attributes, two options, the price.
        ({"price": 30.0}, 5 / 5),
        ({"price": 30.01}, 4 / 5),
        ({"options": {}}, 3 / 5),
        ({"options": {"color": "red"}}, 4 / 5),
        ({"bought": product(attributes=("warm",))}, 4 / 5),
        ({"bought": product(attributes=("warmth",)), "options": {}, "price": 99.0}, 0 / 5),
    ],
)
def test_parts(arguments, score):
    assert buy(**arguments).score == pytest.approx(score, abs=1e-12)


def test_attributes_are_also_looked_for_in_the_texts():
    wanted = goal(attributes=("wool", "bobble", "by hand", "silk"), options=())
    assert buy(product(attributes=()), wanted=wanted).breakdown["r_att"] == 3 / 4


def test_a_goal_without_options_has_no_option_part():
    purchase = buy(wanted=goal(options=()))
    assert purchase.score == 1.0
    assert "r_option" not in purchase.breakdown
    assert purchase.breakdown["w_price"] == 1 / 3


def test_no_price_limit():
    assert buy(price=999_999.0, wanted=goal(limit=NO_LIMIT)).score == 1.0


@pytest.mark.parametrize(
    ("bought", "wanted", "r_type", "title_score"),
    [
        (product("Warm Hat for Men"), product(), 1.0, 1 / 2),
        # Neither query nor two categories, but more than a fifth of the nouns.
        (product("Warm Hat for Men", query="x", path="Clothing"), product(), 1.0, 1 / 2),
        # The same query, and no common noun: nothing.
        (product("Soft Things"), product(), 0.0, 0.0),
        # One noun of eleven.
        (product(), product("Eleven"), 0.1, 1 / 11),
        # No noun is wanted: 0.2, which is not more than 0.2.
        (product(), product("Buy"), 1.0, 0.2),
        (product(query="x", path="Clothing"), product("Buy"), 0.5, 0.2),
        # Two categories in common, an empty one included.
        (product(query="x", path="Clothing › "), product("Buy", path="Clothing › "), 1.0, 0.2),
    ],
)
def test_type(bought, wanted, r_type, title_score):
    breakdown = buy(bought, wanted=goal(wanted)).breakdown
    assert (breakdown["r_type"], breakdown["title_score"]) == (r_type, title_score)


@pytest.mark.parametrize(
    ("text", "color"),
    [
        ("navy blue", "blue"),  # the first in the list, not in the text
        ("standard", "tan"),
        ("washed", "ash"),
        ("black1901", "black"),
        ("large", "large"),
        ("", ""),
    ],
)
def test_normalize_color(text, color):
    assert normalize_color(text) == color


@pytest.mark.parametrize(
    ("one", "other", "score"),
    [
        ("Wool HAT!", "hat wool", 100),
        ("wool", "red wool hat", 100),
        ("café", "caf", 100),  # characters of Latin-1 are dropped
        ("naïve", "nave", 100),
        ("漢字", "漢字", 100),
        ("", "", 0),
        ("!", "!", 0),
    ],
)
def test_similarity(one, other, score):
    assert similarity(one, other) == score


def test_similarity_is_rounded_before_it_is_compared():
    # 85.106 and 85.714: both are more than 85, only the second is a match.
    assert similarity("light rubbery steels sole", "toe rubber lights sole") == 85
    assert similarity("steel cotton dry", "cotton proof steel") == 86


@given(st.text(), st.text())
def test_similarity_is_symmetric(one, other):
    assert similarity(one, other) == similarity(other, one)
    assert 0 <= similarity(one, other) <= 100


def matches(value, option, quirks):
    return bool(matched_options([value], [option], quirks))


@pytest.mark.parametrize(
    ("value", "option", "original", "fixed"),
    [
        # A colour in a pair is recognised only if it is the whole value.
        ("black1901", ("color", "black1901"), False, True),
        ("standard", ("style", "standard"), False, True),
        ("black", ("color", "black"), True, True),
        ("red", ("color", "blue"), False, False),
        # Any shade passes.
        ("light blue", ("color", "navy blue"), True, True),
        # The name of an option is among what is compared with.
        ("size", ("size", "small"), True, False),
        # A value shares all its words with the wanted one.
        ("small", ("size", "small petite"), True, True),
        # Without a letter or digit nothing is similar.
        ("+", ("size", "+"), False, True),
        # Human goals name values only.
        ("black1901", "black1901", True, True),
        ("navy blue", "blue", True, True),
        ("small", "large", False, False),
    ],
)
def test_options(value, option, original, fixed):
    assert matches(value, option, "original") is original
    assert matches(value, option, "fixed") is fixed


@given(st.text(min_size=1), st.sampled_from(["color", "size"]), st.booleans())
def test_the_wanted_value_itself_always_fits_when_fixed(value, name, is_human):
    assert matches(value, value if is_human else (name, value), "fixed")


def test_colors_are_reachable_only_when_fixed():
    wanted = goal(options=(("color", "black1901"),))
    assert buy(options={"color": "black1901"}, wanted=wanted).score == 0.75
    assert buy(options={"color": "black1901"}, wanted=wanted, quirks="fixed").score == 1.0


def test_the_stand_in_for_nouns_finds_the_wanted_product():
    nouns = WordNouns()
    assert not nouns.is_exact
    assert nouns.of("The Men's Red Hat, 12 Oz (Pack of 2)") == ("red", "hat", "oz", "pack")
    assert score_purchase(product(), {"color": "red", "size": "small"}, 20.0, goal(), nouns).score == 1.0
    assert KnownNouns({}).of("Red Hat") == ("red", "hat")


def test_color_list():
    assert len(set(COLORS)) == len(COLORS) == 102


@pytest.mark.parametrize("character", ["\x80", "\xa0", "\xe9", "\xff"])
def test_latin_1_characters_are_dropped_as_thefuzz_drops_them(character):
    assert similarity(f"ca{character}fe", "cafe") == 100
    assert similarity("ca\u0100fe", "cafe") < 100


@pytest.mark.parametrize(
    ("one", "other", "newer", "older"),
    [
        ("black", "('color', 'black_style_99496')", 100, 36),
        ("navy blue", "('color', 'navy blue')", 100, 100),
        ("brass plated", "tiny", 12, 12),
        ("", "black", 0, 0),
        ("é", "é", 0, 0),
    ],
)
def test_both_versions_of_thefuzz(one, other, newer, older):
    """The values of thefuzz 0.22.1, and of 0.19.0 with python-Levenshtein."""
    assert (similarity(one, other), similarity(one, other, "0.19")) == (newer, older)


def test_the_version_of_thefuzz_decides_what_matches():
    wanted = [("color", "black_style_99496")]
    assert matched_options(["black"], wanted) == {0}
    assert matched_options(["black"], wanted, thefuzz="0.19") == frozenset()
