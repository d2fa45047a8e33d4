"""Claims of the WebShop skills, checked against the shop and its instructions."""

from __future__ import annotations

import re
from collections import Counter
from functools import lru_cache
from itertools import islice

import gymnasium
import pytest
from helpers.claims import claim

from sdar_envs.webshop.env import WebShopEnv
from sdar_envs.webshop.goals import NO_LIMIT, Goal
from sdar_envs.webshop.reward import matched_options, score_purchase
from sdar_skills import Library
from sdar_skills.library.task_types import TASK_TYPES

LIMIT = re.compile(r",? and price lower than .*$")
OPTIONS = re.compile(r" with [a-z ]+: .*$")


@lru_cache(maxsize=1)
def shop_env() -> WebShopEnv:
    env = gymnasium.make("sdar/WebShop-v0", split="train", disable_env_checker=True).unwrapped
    assert isinstance(env, WebShopEnv)
    return env


@lru_cache(maxsize=1)
def wishes() -> tuple[Goal, ...]:
    goals = shop_env().source.goals
    return tuple(goals[index] for index in range(1500, len(goals), 5))


@lru_cache(maxsize=1)
def all_wishes() -> tuple[Goal, ...]:
    return tuple(shop_env().source.goals)


class Visit:
    """One episode in the shop."""

    def __init__(self, goal: Goal) -> None:
        self.env = gymnasium.make("sdar/WebShop-v0", split="train", disable_env_checker=True).unwrapped
        assert isinstance(self.env, WebShopEnv)
        self.page, self.info = self.env.reset(options={"task_id": f"webshop/train/{goal.index - 1500:04d}"})
        assert self.info["instruction"] == goal.instruction
        self.goal = goal
        self.over = False

    def do(self, action: str) -> str:
        self.page, _, self.over, _, self.info = self.env.step(action)
        return self.page

    def open(self) -> str:
        """Go to the page of the wanted product."""
        for action in self.env.oracle_plan():
            if self.env._session.state.page_name == "item_page":
                break
            self.do(action)
        return self.page

    @property
    def chosen(self) -> dict[str, str]:
        return dict(self.env._session.state.options)

    @property
    def clicks(self) -> list[str]:
        return self.info["available_actions"]["clickables"]

    @property
    def results(self) -> tuple[int, ...]:
        return tuple(self.env._session.state.results)


def with_options(n: int = 20, options: int = 2) -> list[Goal]:
    """Return wishes that can be fulfilled and name so many options."""
    wanted = (goal for goal in wishes() if len(goal.options) == options)
    met = (goal for goal in wanted if all(matched_options([pair[1]], (pair,)) for pair in goal.options))
    return list(islice(met, n))


def hits(query: str) -> list[str]:
    shop = shop_env().shop
    return [shop.products[number].asin for number in shop.search(query.split(" "), lambda n: ())]


# -- search-with-the-whole-wish ---------------------------------------------------------------

SEARCH = "webshop/search-with-the-whole-wish"


def found(query_of, goals, *, first: int) -> float:
    goals = list(goals)
    return sum(goal.product.asin in hits(query_of(goal))[:first] for goal in goals) / len(goals)


def whole(goal: Goal) -> str:
    return LIMIT.sub("", goal.instruction)


def without_options(goal: Goal) -> str:
    return OPTIONS.sub("", whole(goal))


@claim(
    SEARCH,
    "The listing of each product names its options, so option words help: they bring the wanted product to the first "
    "place about twice as often as a search without them, and among the first ten nearly always.",
)
def test_search_option_words_help():
    goals = wishes()[::2]
    assert found(whole, goals, first=10) > 0.93
    ratio = found(whole, goals, first=1) / found(without_options, goals, first=1)
    assert 1.7 < ratio < 2.8


@claim(SEARCH, "Every word counts alone; their order, small words and plural endings do not.")
def test_search_order_small_words_and_plurals_do_not_count():
    assert hits("women's dresses button closure") == hits("closure the button of women's dress") != []


@claim(SEARCH, "Leave the price out: it is not searched.")
def test_search_prices_are_not_indexed():
    shop = shop_env().shop
    odd = [product for product in shop.products if len(product.prices) == 1 and product.prices[0] % 1 > 0][:50]
    assert sum(product.asin in hits(f"{product.prices[0]:.2f}") for product in odd) == 0


@claim(SEARCH, "Square brackets end or break the action: leave them out.")
def test_search_brackets_break_the_action():
    visit = Visit(wishes()[0])
    page = visit.page
    assert visit.do("search[red [2 pack] shoes]") == page
    assert visit.info["is_action_valid"] is False


@claim(SEARCH, "Ten products to a page, fifty in all.", "A search works from every page, and one search is one step.")
def test_search_pages_and_places():
    visit = Visit(wishes()[0])
    visit.do("search[shoes]")
    assert "Total results: 50" in visit.page
    assert len([click for click in visit.clicks if re.fullmatch(r"b[0-9a-z]{9}", click)]) == 10
    for action in (f"click[{visit.clicks[-1]}]", "click[features]"):
        visit.do(action)
        before = visit.info["step"]
        assert "Page 1 (Total results: 50)" in visit.do("search[shoes]")
        assert visit.info["step"] == before + 1
        visit.do(f"click[{visit.clicks[-1]}]")


@claim(SEARCH, "The first hit is the best guess, not a proof")
def test_search_the_first_hit_is_right_half_of_the_time():
    assert 0.4 < found(whole, wishes()[::3], first=1) < 0.65


# -- choose-options-then-buy ------------------------------------------------------------------

CHOOSE = "webshop/choose-options-then-buy"


@claim(CHOOSE, "`click[buy now]` ends the task at once and cannot be undone.", "Buying without the options loses their")
def test_choose_buying_ends_the_task_and_options_count():
    for goal in with_options():
        visit = Visit(goal)
        visit.open()
        visit.do("click[buy now]")
        assert visit.over
        parts = len(goal.attributes) + len(goal.options) + 1
        assert visit.info["score"] == pytest.approx((parts - len(goal.options)) / parts)


@claim(CHOOSE, "Any spelling of capitals works", "click each wanted option by its value")
def test_choose_values_are_clicked_in_any_case():
    for goal in with_options():
        visit = Visit(goal)
        visit.open()
        for name, value in goal.options:
            visit.do(f"click[{value.upper()}]")
            assert visit.chosen[name] == value
        visit.do("click[buy now]")
        assert visit.info["score"] == 1.0


@claim(CHOOSE, "A second click on the same option replaces the first.", "The plain text page does not show what is")
def test_choose_the_last_click_counts_and_nothing_shows():
    visit = Visit(with_options(1)[0])
    page = visit.open()
    values = next(dict(visit.goal.product.options)[name] for name, _ in visit.goal.options)
    name = visit.goal.options[0][0]
    for value in values[:2]:
        assert visit.do(f"click[{value}]") == page
    assert visit.chosen == {name: values[1]}


@claim(
    CHOOSE,
    "Options survive a visit to Description, Features or Reviews and the way back with `< prev`.",
    "They are lost when you go back to the results or search again",
)
def test_choose_when_options_are_kept_and_lost():
    goal = with_options(1)[0]
    name, value = goal.options[0]
    for button in ("description", "features", "reviews"):
        visit = Visit(goal)
        visit.open()
        for action in (f"click[{value}]", f"click[{button}]", "click[< prev]"):
            visit.do(action)
        assert visit.chosen == {name: value}
    for leave in ("click[< prev]", "click[back to search]", f"search[{goal.product.title}]"):
        visit = Visit(goal)
        visit.open()
        visit.do(f"click[{value}]")
        visit.do(leave)
        visit.open()
        assert visit.env._session.state.page_name == "item_page"
        assert visit.chosen == {}


@claim(
    CHOOSE,
    'one that shares its words counts too: "large" for "large tall", "6 ounce (pack of 2)" for "6 ounce (pack of 6)". '
    '"2 pack" for "10 pack" does not.',
)
@pytest.mark.parametrize(
    ("clicked", "wanted", "counts"),
    [
        ("large", "large tall", True),
        ("6 ounce (pack of 2)", "6 ounce (pack of 6)", True),
        ("2 pack", "10 pack", False),
    ],
)
def test_choose_values_that_share_their_words_count(clicked, wanted, counts):
    assert bool(matched_options([clicked], (("size", wanted),))) == counts


@claim(CHOOSE, "an episode that ends without a purchase scores nothing")
def test_choose_no_purchase_no_score():
    visit = Visit(wishes()[0])
    visit.open()
    for _ in range(visit.env.max_steps - visit.info["step"]):
        visit.do("click[features]")
    assert visit.info["score"] == 0.0


# -- know-what-the-score-counts ---------------------------------------------------------------

SCORE = "webshop/know-what-the-score-counts"


@claim(
    SCORE, "matched attributes, matched options and a kept price limit, one point each, divided by how many were asked"
)
def test_score_is_a_share_of_points():
    env = shop_env()
    for goal in with_options(30):
        price = env.source.goals.prices[goal.product.number]
        parts = len(goal.attributes) + len(goal.options) + 1
        options = dict(goal.options)
        for dropped in range(len(options) + 1):
            for cost in (price, NO_LIMIT + 1.0):
                kept = dict(list(options.items())[dropped:])
                missed = dropped + (cost > goal.price_upper)
                bought = score_purchase(goal.product, kept, cost, goal, env.shop.nouns)
                assert bought.score == pytest.approx((parts - missed) / parts)


@claim(SCORE, "A product of another kind gets nothing or next to nothing, however cheap.")
def test_score_another_kind_is_worth_little():
    env = shop_env()
    products = list(env.shop.products)
    scores = [
        score_purchase(product, {}, 0.0, goal, env.shop.nouns).score
        for number, goal in enumerate(wishes()[::10])
        for product in products[number % 7 :: 37]
        if product.category != goal.product.category
    ]
    assert len(scores) > 1000
    assert sum(scores) / len(scores) < 0.03
    assert sum(score < 0.1 for score in scores) / len(scores) > 0.95


@claim(SCORE, "its words stand in the title, the features or the description. A product that lacks one attribute still")
def test_score_attributes_may_stand_anywhere():
    env = shop_env()
    for goal in wishes()[::5]:
        product = goal.product
        texts = " ".join((product.title, *product.bullets, product.description)).lower()
        assert all(wanted in texts for wanted in goal.attributes)
        full = score_purchase(product, {}, 0.0, goal, env.shop.nouns).breakdown
        assert full["r_att"] == 1.0
    goal = next(goal for goal in wishes() if len(goal.attributes) > 1)
    other = next(
        score
        for product in env.shop.products
        if product.query == goal.product.query
        for score in [score_purchase(product, {}, 0.0, goal, env.shop.nouns)]
        if 0 < score.breakdown["r_att"] < 1
    )
    assert 0 < other.score < 1


@claim(
    SCORE, "Any shade of a colour fits: light blue for navy blue.", "An option counts if you clicked a fitting value."
)
def test_score_any_shade_fits():
    assert matched_options(["light blue"], (("color", "navy blue"),))
    assert not matched_options(["light green"], (("color", "navy blue"),))


@claim(
    SCORE, "A nearly right purchase scores much, none scores zero.", "Attributes that no title shows are in Features"
)
def test_score_a_nearly_right_purchase_scores_much():
    env = shop_env()
    scores = []
    for goal in wishes()[::5]:
        by_asin = {product.asin: product for product in env.shop.products}
        best = by_asin[hits(whole(goal))[0]]
        scores.append(score_purchase(best, dict(goal.options), 0.0, goal, env.shop.nouns).score)
    assert sum(scores) / len(scores) > 0.75


# -- keep-the-price-limit ---------------------------------------------------------------------

PRICE = "webshop/keep-the-price-limit"


@claim(PRICE, "options never change the price that counts")
def test_price_is_the_products():
    for goal in with_options(5):
        visit = Visit(goal)
        page = visit.open()
        shown = re.search(r"Price: [^\[]*", page)
        for _, value in goal.options:
            assert re.search(r"Price: [^\[]*", visit.do(f"click[{value}]"))[0] == shown[0]
        visit.do("click[buy now]")
        assert visit.info["reward_info"]["r_price"] is True


@claim(PRICE, "on the results page, where each price stands below its title")
def test_price_stands_among_the_results():
    visit = Visit(wishes()[0])
    segments = visit.do("search[shoes]").split(" [SEP] ")
    for place, text in enumerate(segments):
        if re.fullmatch(r"B[0-9A-Z]{9}", text):
            assert segments[place + 2].startswith("$")


@claim(
    PRICE, 'A range such as "$24.49 to $39.99" hides one price somewhere in it.', "If its upper end is within the limit"
)
def test_price_ranges_hide_a_price():
    prices = shop_env().source.goals.prices
    ranges = [product for product in shop_env().shop.products if len(product.prices) == 2]
    assert len(ranges) > 100
    for product in ranges:
        assert re.fullmatch(r"\$[\d.]+ to \$[\d.]+", product.price_tag)
        assert min(product.prices) <= prices[product.number] <= max(product.prices)


@claim(PRICE, "it lies ten to forty dollars above the price of the wanted product")
def test_price_limits_are_generous():
    prices = shop_env().source.goals.prices
    above = [goal.price_upper - prices[goal.product.number] for goal in wishes() if goal.price_upper < NO_LIMIT]
    assert len(above) > 1000
    assert all(10 < margin <= 40 for margin in above)


@claim(PRICE, "The price is one point among several.")
def test_price_too_dear_costs_one_point():
    env = shop_env()
    goal = with_options(1)[0]
    dear = score_purchase(goal.product, dict(goal.options), goal.price_upper + 0.01, goal, env.shop.nouns)
    assert dear.score == pytest.approx(1 - 1 / (len(goal.attributes) + len(goal.options) + 1))


# -- read-features-and-description ------------------------------------------------------------

READ = "webshop/read-features-and-description"


@claim(READ, "Reviews are empty, and the rating is always N.A.")
def test_read_reviews_are_empty():
    for goal in wishes()[::200]:
        visit = Visit(goal)
        assert "Rating: N.A." in visit.open()
        assert visit.do("click[reviews]").endswith("Back to Search [SEP] < Prev")


@claim(READ, "it names three of four attributes, the title a third, the description one in seven")
def test_read_features_name_most_attributes():
    attributes = [(goal.product, wanted) for goal in wishes() for wanted in goal.attributes]
    features = sum(wanted in " ".join(product.bullets).lower() for product, wanted in attributes) / len(attributes)
    title = sum(wanted in product.title.lower() for product, wanted in attributes) / len(attributes)
    description = sum(wanted in product.description.lower() for product, wanted in attributes) / len(attributes)
    assert features == pytest.approx(0.75, abs=0.07)
    assert title == pytest.approx(0.33, abs=0.07)
    assert description == pytest.approx(1 / 7, abs=0.05)


@claim(
    READ,
    "Each look costs two steps",
    "`< prev` on such a page returns to the product and keeps the chosen options. `< prev` on the product's page "
    "returns to the results",
)
def test_read_the_way_back():
    visit = Visit(with_options(1)[0])
    page = visit.open()
    step = visit.info["step"]
    visit.do("click[features]")
    assert visit.do("click[< prev]") == page
    assert visit.info["step"] == step + 2
    assert "Total results" in visit.do("click[< prev]")


# -- the departments --------------------------------------------------------------------------


def of(category: str) -> list[Goal]:
    return [goal for goal in all_wishes() if goal.product.category == category]


def option_counts(category: str) -> dict[int, float]:
    goals = of(category)
    counts = Counter(len(goal.options) for goal in goals)
    return {number: counts[number] / len(goals) for number in range(4)}


def names(goal: Goal) -> set[str]:
    return {name for name, _ in goal.options}


def test_departments_are_the_catalogues():
    catalogue = {product.category for product in shop_env().shop.products}
    assert catalogue == set(TASK_TYPES["webshop"]) - {"shopping"}
    assert {skill.task_type for skill in Library.load().select("webshop")} == {*catalogue, "shopping", None}


CLOTHES = "webshop/buy-clothes-and-shoes"


@claim(CLOTHES, "Nearly every wish names a colour and a size, some also a fit type: two or three options")
def test_clothes_want_colour_and_size():
    goals = of("fashion")
    assert sum(names(goal) >= {"color", "size"} for goal in goals) / len(goals) > 0.9
    assert 0.03 < sum("fit type" in names(goal) for goal in goals) / len(goals) < 0.2


@claim(CLOTHES, "Every title says for whom it is", "a midi dress for dresses, a graphic tee for t-shirts")
def test_clothes_titles_say_for_whom():
    titles = Counter()
    for goal in of("fashion"):
        assert goal.product.query.split()[0] in goal.product.title.lower()
        titles[goal.product.query, re.search(r"midi dress|graphic tee|$", goal.product.title.lower())[0]] += 1
    assert titles["women's dresses", "midi dress"]
    assert titles["women's t-shirts", "graphic tee"]


@claim(
    CLOTHES, '"large", "x-large", "large tall" and "large petite" are four values', "Click the whole value, not a part"
)
def test_clothes_a_part_of_a_value_is_no_value():
    tried = 0
    for goal in with_options(60):
        for _, value in goal.options:
            visit = Visit(goal)
            visit.open()
            part = value.rpartition(" ")[0]
            if part and part not in visit.clicks:
                page = visit.page
                assert visit.do(f"click[{part}]") == page
                assert visit.info["is_action_valid"] is False
                tried += 1
    assert tried > 5
    sizes = {value for goal in of("fashion") for name, value in goal.options if name == "size"}
    assert {"large", "x-large", "large tall", "large petite"} <= sizes


@claim(CLOTHES, "Most stand in the features only, not in the title.")
def test_clothes_attributes_stand_in_the_features():
    pairs = [(goal.product, wanted) for goal in of("fashion") for wanted in goal.attributes]
    assert sum(wanted not in product.title.lower() for product, wanted in pairs) / len(pairs) > 0.55


DEVICES = "webshop/buy-electronics"


@claim(DEVICES, "most name one option or two, one in six none")
def test_devices_have_few_options():
    counts = option_counts("electronics")
    assert counts[1] + counts[2] > 0.8
    assert counts[0] == pytest.approx(1 / 6, abs=0.02)


@claim(DEVICES, "desk fan for portable fan, gamepad for game controller", '("2 pack", "10 pack")', '("44 mm")')
def test_devices_titles_and_values():
    goals = of("electronics")
    values = {value for goal in goals for _, value in goal.options}
    assert {"2 pack", "10 pack", "44 mm", "16 gb memory", "with charger", "travel kit"} <= values
    titles = {
        (goal.product.query, word)
        for goal in goals
        for word in re.findall(r"desk fan|gamepad", goal.product.title.lower())
    }
    assert titles == {("portable fans", "desk fan"), ("game controllers", "gamepad")}


HOME = "webshop/buy-for-home-and-garden"


@claim(HOME, "Seven of ten wishes name two options, mostly colour and size.")
def test_home_wants_two_options():
    assert option_counts("garden")[2] == pytest.approx(0.7, abs=0.02)
    two = [goal for goal in of("garden") if len(goal.options) == 2]
    assert sum(names(goal) == {"color", "size"} for goal in two) / len(two) > 0.8


@claim(
    HOME, '"full" and "full xl" are two values', "silk fern for an artificial plant, clothes rail for a garment rack"
)
def test_home_titles_and_values():
    goals = of("garden")
    assert {"full", "full xl", "set of 4", "12 x 20 inch"} <= {value for goal in goals for _, value in goal.options}
    titles = {
        (goal.product.query, word)
        for goal in goals
        for word in re.findall("silk fern|clothes rail", goal.product.title.lower())
    }
    assert titles == {("artificial plants", "silk fern"), ("garment racks", "clothes rail")}


BEAUTY = "webshop/buy-beauty-and-care"


@claim(BEAUTY, "A third of the wishes names no option at all; the others name a colour, a size or a scent.")
def test_beauty_options():
    assert option_counts("beauty")[0] == pytest.approx(1 / 3, abs=0.02)
    named = [goal for goal in of("beauty") if goal.options]
    assert sum(bool(names(goal) & {"color", "size", "scent"}) for goal in named) / len(named) > 0.85


@claim(BEAUTY, "A bare other amount does not count: 8 fl oz is not 16 fl oz.")
def test_beauty_amounts_must_agree():
    assert not matched_options(["8 fl oz"], (("size", "16 fl oz"),))


@claim(
    BEAUTY,
    '"4 fl oz", "16 fl oz", "1 count (pack of 1)", "30 count"',
    "(wild rose, ocean breeze, warm amber) are options",
)
def test_beauty_values():
    values = {
        value
        for product in shop_env().shop.products
        if product.category == "beauty"
        for _, vs in product.options
        for value in vs
    }
    assert {
        "4 fl oz",
        "16 fl oz",
        "1 count (pack of 1)",
        "30 count",
        "wild rose",
        "ocean breeze",
        "warm amber",
    } <= values


FOOD = "webshop/buy-food-and-drinks"


@claim(FOOD, "Six of ten wishes name two options, a flavor and a size; the rest one or none.")
def test_food_options():
    counts = option_counts("grocery")
    assert counts[2] == pytest.approx(0.6, abs=0.02)
    assert counts[3] == 0
    for goal in of("grocery"):
        if len(goal.options) == 2:
            assert "size" in names(goal)
            assert names(goal) & {"flavor", "flavor name"}


@claim(FOOD, "The whole wish as a search brings the right product to the first place in six of ten cases")
def test_food_is_found_at_once():
    assert found(whole, of("grocery"), first=1) == pytest.approx(0.6, abs=0.03)


UNKNOWN = "webshop/buy-without-knowing-the-department"


@claim(UNKNOWN, 'options after "with" ("color: grey", "size: 18"), and the limit after "price lower than"')
def test_unknown_a_wish_has_four_parts():
    for goal in wishes():
        said = whole(goal)
        for name, value in goal.options:
            assert re.search(rf"(?: with|, and) {name}: {re.escape(value)}(?=, and |$)", said)
        assert ("price lower than" in goal.instruction) == (goal.price_upper < NO_LIMIT)


@claim(UNKNOWN, "Fifteen steps are plenty")
def test_unknown_there_are_fifteen_steps():
    assert shop_env().max_steps == 15
