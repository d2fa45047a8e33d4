"""A person's purchase in a real browser. Pictures of it go to $WEBSHOP_SCREENSHOTS, if that is set."""

import os
from pathlib import Path

import pytest
from helpers.browsers import CAN_BROWSE, leave, open_browser
from helpers.live import served

webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed (extra: browser)")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_BROWSE, reason="Chromium or its driver is not installed"),
]


@pytest.fixture(scope="module")
def site():
    with served("webshop") as (address, _):
        yield address


@pytest.fixture
def browser(tmp_path):
    driver = open_browser(tmp_path / "profile", 1200)
    yield driver
    driver.quit()


def shoot(browser, name):
    if folder := os.environ.get("WEBSHOP_SCREENSHOTS"):
        assert browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def press(browser, text):
    [button] = [b for b in browser.find_elements("css selector", ".btn") if b.text == text]
    leave(browser, button.click)


def goal(number=0):
    """What a person who knows the answer would buy."""
    from sdar_envs.webshop.env import WebShopEnv

    env = WebShopEnv(split="test", quirks="fixed")
    for index in range(number, 200):
        env.reset(options={"task_id": env.source.task("test", index).id})
        if len(env.goal.options) >= 2:
            return env.task.id, env.goal
    raise AssertionError("no goal with two options")


def is_narrow(browser):
    """Whether nothing sticks out of the window."""
    return browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")


def test_a_purchase_from_search_to_score(site, browser):
    task_id, wanted = goal()
    browser.get(f"{site}/")
    assert browser.find_elements("css selector", ".tasks a")
    shoot(browser, "tasks")

    browser.get(f"{site}/shop?task={task_id}")
    assert wanted.instruction in browser.find_element("id", "instruction-text").text
    shoot(browser, "search")
    bar = browser.switch_to.active_element
    assert bar.get_attribute("id") == "search_input"  # one can type at once
    bar.send_keys(wanted.product.title)
    press(browser, "Search")

    cards = browser.find_elements("css selector", ".cards li")
    assert len(cards) == 10
    pictures = browser.find_elements("css selector", ".cards img")
    assert all(browser.execute_script("return arguments[0].naturalWidth", picture) > 0 for picture in pictures)
    shoot(browser, "results")
    press(browser, "Next >")
    assert "page=2" in browser.current_url
    press(browser, "< Prev")
    [link] = [a for a in browser.find_elements("css selector", ".product-link") if a.text == wanted.product.asin]
    # The whole card is the link: a click on the title follows it.
    title = link.find_element("xpath", "..").find_element("css selector", "h2")
    leave(browser, webdriver.ActionChains(browser).move_to_element(title).click().perform)
    assert "/item?" in browser.current_url

    for name, value in wanted.options:
        for label in browser.find_elements("css selector", "label"):
            radio = browser.find_element("id", label.get_attribute("for"))
            if (radio.get_attribute("name"), radio.get_attribute("value")) == (f"option.{name}", value):
                label.click()
                assert radio.is_selected()
    shoot(browser, "item")
    press(browser, "Features")
    assert wanted.product.bullets[0].strip() in browser.find_element("css selector", "article").text
    shoot(browser, "features")
    press(browser, "< Prev")
    chosen = browser.find_elements("css selector", "input:checked")
    assert [radio.get_attribute("value") for radio in chosen] == [
        dict(wanted.options)[name] for name, _ in wanted.product.options if name in dict(wanted.options)
    ]
    press(browser, "Buy Now")
    assert browser.find_element("css selector", "#reward pre").text == "1.0"
    shoot(browser, "score")
    leave(browser, browser.find_element("css selector", "a.main").click)
    assert "/shop?task=" in browser.current_url
    assert task_id.replace("/", "%2F") not in browser.current_url

    messages = [entry["message"] for entry in browser.get_log("browser")]
    assert messages == []  # no blocked content, no missing file
    requests = [entry["message"] for entry in browser.get_log("performance") if "requestWillBeSent" in entry["message"]]
    assert requests
    foreign = [r for r in requests if '"url":"http' in r and f'"url":"{site}/' not in r]
    assert foreign == []


def test_the_keyboard_is_enough(site, browser):
    from selenium.webdriver.common.keys import Keys

    task_id, wanted = goal(20)
    browser.get(f"{site}/shop?task={task_id}")
    bar = browser.switch_to.active_element
    leave(browser, lambda: bar.send_keys(wanted.product.title + Keys.ENTER))

    def tab_to(accept):
        for _ in range(60):
            browser.switch_to.active_element.send_keys(Keys.TAB)
            there = browser.switch_to.active_element
            if accept(there):
                style = "return getComputedStyle(arguments[0], arguments[1]).outlineStyle"
                shown = [browser.execute_script(style, there, pseudo) for pseudo in (None, "::after")]
                is_radio = there.get_attribute("type") == "radio"
                assert is_radio or set(shown) != {"none"}, there.get_attribute("outerHTML")
                return there
        raise AssertionError("not reached")

    link = tab_to(lambda e: e.text == wanted.product.asin)
    leave(browser, lambda: link.send_keys(Keys.ENTER))
    tab_to(lambda e: e.get_attribute("type") == "radio").send_keys(Keys.SPACE)
    assert len(browser.find_elements("css selector", "input:checked")) == 1
    button = tab_to(lambda e: e.text == "Buy Now")
    leave(browser, lambda: button.send_keys(Keys.ENTER))
    assert float(browser.find_element("css selector", "#reward pre").text) > 0


def test_enter_on_an_option_chooses_it(site, browser):
    from selenium.webdriver.common.keys import Keys

    task_id, wanted = goal()
    browser.get(f"{site}/item?task={task_id}&query=x&page=1&asin={wanted.product.asin}")
    radio = browser.find_element("css selector", "input[type=radio]")
    radio.send_keys(Keys.SPACE)
    leave(browser, lambda: radio.send_keys(Keys.ENTER))
    assert "/item?" in browser.current_url
    assert len(browser.find_elements("css selector", "input:checked")) == 1


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone(site, browser, scheme):
    task_id, wanted = goal()
    browser.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 380, "height": 800, "deviceScaleFactor": 2, "mobile": True}
    )
    browser.execute_cdp_cmd(
        "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
    )
    product = wanted.product
    options = "".join(f"&option.{name}={value}" for name, value in wanted.options)
    there = f"task={task_id}&query={product.query}&asin={product.asin}{options}"
    for name, address in {
        "tasks": "",
        "search": f"shop?task={task_id}",
        "results": f"results?task={task_id}&query={product.query}",
        "item": f"item?{there}",
        "description": f"description?{there}",
        "score": f"done?{there}",
        "long-score": f"done?{there.removesuffix(options)}",
        "error": "nothing",
    }.items():
        browser.get(f"{site}/{address}")
        shoot(browser, f"phone-{scheme}-{name}")
        assert is_narrow(browser), name


def test_a_hostile_query_stays_text(site, browser):
    task_id, _ = goal()
    browser.get(f"{site}/shop?task={task_id}")
    hostile = "\"><script>document.title='owned'</script><img src=x onerror=alert(1)>"
    browser.switch_to.active_element.send_keys(hostile)
    press(browser, "Search")
    assert browser.find_element("id", "search_again").get_attribute("value") == hostile.lower()
    assert "owned" not in browser.title or "<script>" in browser.title
    assert browser.find_elements("css selector", "script, img[onerror]") == []
