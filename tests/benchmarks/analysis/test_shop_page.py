"""Pages of a shop read from its text: what is there stays, in its place."""

from __future__ import annotations

import gymnasium as gym
import pytest

from sdar_benchmarks.analysis.shop_page import page_text, read_page
from sdar_envs.webshop.env import WebShopEnv

TASK = "webshop/test/0007"


@pytest.fixture(scope="module", params=["text", "text_rich"])
def shop(request: pytest.FixtureRequest) -> WebShopEnv:
    env = gym.make("sdar/WebShop-v0", split="test", observation=request.param).unwrapped
    assert isinstance(env, WebShopEnv)
    return env


def test_pages_of_an_episode(shop: WebShopEnv) -> None:
    observation, info = shop.reset(options={"task_id": TASK})
    search, product, *options, buy = shop.oracle_plan() or ()
    page = read_page(observation, info["admissible_commands"])
    assert page is not None
    assert (page.instruction, page.title, page.buttons) == (info["instruction"], "Search", ["Search"])

    observation, _, _, _, info = shop.step(search)
    results = read_page(observation, info["admissible_commands"])
    assert results is not None
    assert results.title == "Page 1 (Total results: 50)"
    assert results.buttons == ["Back to Search", "Next >"]
    clickable = [command[6:-1] for command in info["admissible_commands"]]
    assert [listed.asin.lower() for listed in results.products] == clickable[2:]
    assert all(listed.title and listed.price.startswith("$") for listed in results.products)

    observation, _, _, _, info = shop.step(product)
    item = read_page(observation, info["admissible_commands"])
    assert item is not None
    assert item.title in {listed.title for listed in results.products}
    assert item.buttons == ["Back to Search", "< Prev", "Description", "Features", "Reviews", "Buy Now"]
    assert item.texts[-1] == "Rating: N.A."
    assert item.texts[0].startswith("Price: ")
    values = [value.lower() for option in item.options for value in option.values]
    assert values == [command[6:-1] for command in info["admissible_commands"] if command[6:-1] in values]
    assert {option[6:-1] for option in options} <= set(values)
    assert all(option.name for option in item.options)
    # Nothing of the page is lost, and nothing is added.
    words = " ".join(page_text(item).split())
    for part in observation.replace("[button]", "\n").replace("[button_]", "\n").replace(" [SEP] ", "\n").split("\n"):
        assert " ".join(part.split()) in words or part.strip() == "Instruction:"

    observation, _, _, _, info = shop.step("click[features]")
    features = read_page(observation, info["admissible_commands"])
    assert features is not None
    assert features.buttons == ["Back to Search", "< Prev"]
    assert features.texts
    assert not features.options
    shop.step("click[< prev]")

    for option in options:
        observation, _, _, _, info = shop.step(option)
    chosen = read_page(observation, info["admissible_commands"])
    assert chosen is not None
    marked = {value.lower() for option in chosen.options for value in option.chosen}
    # Only the rich text tells what is chosen.
    assert marked == ({option[6:-1] for option in options} if "[button]" in observation else set())

    observation, *_ = shop.step(buy)
    last = read_page(observation)
    assert last is not None
    assert last.title == "The purchase"
    assert last.texts[-1] == "score: 1.0"


@pytest.mark.parametrize(
    "observation",
    [
        "",
        "Nothing happens.",
        "You see a mug.",
        "WebShop",
        "Instruction:",
        "WebShop [SEP] Search",
        "http://shop/item_page",
    ],
)
def test_what_is_no_page(observation: str) -> None:
    assert read_page(observation) is None


def test_hostile_pages_stay_text() -> None:
    page = read_page("Instruction: [SEP] <script> [SEP] Back to Search [SEP] \x1b[2J [SEP] Buy Now", ["click[", "look"])
    assert page is not None
    assert page_text(page, 20) == "<script>\n\n\x1b[2J\n\n[Back to Search]\n[Buy Now]"
    results = read_page("Instruction: [SEP] Page 1 (Total results: 0)")
    assert results is not None
    assert (results.instruction, results.title, results.products) == ("Page 1 (Total results: 0)", "", [])
