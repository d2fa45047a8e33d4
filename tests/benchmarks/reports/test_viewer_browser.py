"""The viewer and the reports in a real browser. Pictures go to $SDAR_SCREENSHOTS, if that is set."""

import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.browsers import CAN_BROWSE, leave, open_browser
from helpers.run_folders import (
    ALFWORLD,
    HOSTILE,
    WEBSHOP,
    episode,
    played_run,
    training_metrics,
    training_run,
    trajectory,
    turn,
    write_lines,
    write_run,
)

from sdar_agents import open_agent
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_benchmarks.records.runs import read_config
from sdar_benchmarks.reports.report import write_comparison, write_report
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage

pytest.importorskip("selenium", reason="selenium is not installed (extra: browser)")
from selenium.webdriver.support.ui import Select

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not CAN_BROWSE, reason="Chromium or its driver is not installed"),
]

SIZES = {"wide": (1280, 900, False), "narrow": (380, 800, True)}


@contextlib.contextmanager
def viewed(*folders: Path):
    command = [sys.executable, "-m", "sdar_benchmarks.cli", "view", *map(str, folders), "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stdout.readline()
        assert " at http://127.0.0.1:" in line, line + process.stderr.read()
        yield line.split(" at ")[1].split()[0].rstrip("/")
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        _, err = process.communicate(timeout=20)
    assert (process.returncode, err) == (0, "stopped\n")


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("runs") / "first"
    played_run(folder, {ALFWORLD: "explorer", WEBSHOP: "rule"}, tasks=20, seeds=2)
    write_lines(folder / "metrics.jsonl", training_metrics(150))
    return folder


@pytest.fixture(scope="module")
def address(run):
    with viewed(run) as address:
        yield address


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = open_browser(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def look(browser, scheme="light", size="wide"):
    width, height, is_mobile = SIZES[size]
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": is_mobile}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def shoot(browser, name):
    if folder := os.environ.get("SDAR_SCREENSHOTS"):
        assert browser.save_screenshot(str(Path(folder) / f"{name}.png"))


def press(browser, keys):
    browser.find_element("css selector", "body").send_keys(keys)


def follow(browser, selector):
    """Click, and wait for the next page."""
    leave(browser, browser.find_element("css selector", selector).click)


def here(browser):
    return [e.get_attribute("id") for e in browser.find_elements("css selector", ".turn.here")]


def faults(browser):
    """Return what the console complains of: blocked content, missing files, errors of the script."""
    return [entry["message"] for entry in browser.get_log("browser")]


def contrasts(browser):
    """Return the lowest contrast of any text with what is behind it, and the text."""
    return browser.execute_script(
        """
        const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
        const rgba = (css) => {
          canvas.clearRect(0, 0, 1, 1); canvas.fillStyle = css; canvas.fillRect(0, 0, 1, 1);
          const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
          return [r, g, b, a / 255];
        };
        const over = (top, under) => top.slice(0, 3).map((c, i) => c * top[3] + under[i] * (1 - top[3]));
        const light = (rgb) => rgb.map((c) => c / 255)
          .map((c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4))
          .reduce((sum, c, i) => sum + c * [0.2126, 0.7152, 0.0722][i], 0);
        let worst = [99, ""];
        for (const element of document.querySelectorAll("body *")) {
          const isSvg = element instanceof SVGElement;
          const text = [...element.childNodes].filter((n) => n.nodeType === 3).map((n) => n.data).join("").trim();
          if (!text || element.closest("option") || !element.checkVisibility()) continue;
          const layers = [];
          for (let e = element; e; e = e.parentElement) layers.unshift(rgba(getComputedStyle(e).backgroundColor));
          const ground = layers.reduce((under, layer) => over(layer, under), [255, 255, 255]);
          const style = getComputedStyle(element);
          const ink = over(rgba(isSvg ? style.fill : style.color), ground);
          const [a, b] = [light(ink), light(ground)].sort((x, y) => y - x);
          const contrast = (a + 0.05) / (b + 0.05);
          if (contrast < worst[0]) worst = [contrast, text.slice(0, 60)];
        }
        return worst;
        """
    )


def check(browser):
    """What holds for every page: nothing sticks out, nothing is hard to read, nothing was blocked."""
    assert browser.execute_script("return document.documentElement.scrollWidth <= window.innerWidth")
    contrast, text = contrasts(browser)
    assert contrast >= 4.5, text
    assert faults(browser) == []


@pytest.fixture(scope="module")
def reports(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reports")
    other = played_run(folder / "second", {ALFWORLD: "random", WEBSHOP: "random"}, tasks=20, seeds=2)
    write_lines(other / "metrics.jsonl", training_metrics(150, seed=2, speed=90))
    write_comparison([run, other], folder / "both.html")
    return {"report": write_report(run), "comparison": folder / "both.html"}


@pytest.mark.parametrize(("scheme", "size"), [(scheme, size) for scheme in ("light", "dark") for size in SIZES])
def test_every_page_looks_right(address, reports, browser, scheme, size):
    look(browser, scheme, size)
    browser.get(f"{address}/")
    shoot(browser, f"list-{scheme}-{size}")
    check(browser)
    follow(browser, "table.list tbody a")
    shoot(browser, f"episode-{scheme}-{size}")
    check(browser)
    press(browser, "jj")
    shoot(browser, f"turn-{scheme}-{size}")
    browser.get(f"{address}/nothing")
    shoot(browser, f"refusal-{scheme}-{size}")
    assert "cannot be shown" in browser.find_element("css selector", "h1").text
    faults(browser)  # the missing page itself

    for name, path in reports.items():
        browser.get(path.as_uri())
        shoot(browser, f"{name}-{scheme}-{size}")
        check(browser)
        for part in browser.find_elements("css selector", "h2"):
            browser.execute_script("arguments[0].scrollIntoView()", part)
            shoot(browser, f"{name}-{scheme}-{size}-{part.text.split('/')[-1].split(',')[0].lower().replace(' ', '-')}")


@pytest.mark.parametrize(("scheme", "size"), [(scheme, size) for scheme in ("light", "dark") for size in SIZES])
def test_a_training_run_looks_right(browser, tmp_path, scheme, size):
    folder = training_run(tmp_path / "run")
    look(browser, scheme, size)
    with viewed(folder) as address:
        browser.get(f"{address}/")
        shoot(browser, f"training-list-{scheme}-{size}")
        check(browser)
        follow(browser, "table.list tbody a")
        press(browser, "p")
        columns = browser.find_elements("css selector", ".beside > div")[:2]
        left, right = (column.rect for column in columns)
        # Side by side where there is room for it, one above the other where not.
        assert (left["y"] == right["y"]) == (size == "wide")
        assert "Look before you take" in columns[1].text
        shoot(browser, f"training-episode-{scheme}-{size}")
        check(browser)
    browser.get(write_report(folder).as_uri())
    for fold in browser.find_elements("css selector", "details.episode summary"):
        fold.click()
    shoot(browser, f"training-report-{scheme}-{size}")
    check(browser)


def test_the_keyboard_is_enough(address, browser):
    look(browser)
    browser.get(f"{address}/")
    press(browser, "jj")
    focused = browser.switch_to.active_element
    assert focused.text.endswith("0001")
    leave(browser, lambda: focused.send_keys("\ue007"))  # Enter
    assert "Turn 1" in browser.page_source
    first = browser.current_url

    press(browser, "j")
    assert here(browser) == ["t1"]
    press(browser, "jj")
    assert here(browser) == ["t3"]
    assert browser.current_url.endswith("#t3")
    press(browser, "k")
    assert here(browser) == ["t2"]
    top = browser.execute_script("return document.querySelector('.here').getBoundingClientRect().top")
    assert 0 <= top < 200

    folds = "return [...document.querySelectorAll('details.prompt')].map((fold) => fold.open)"
    press(browser, "p")
    assert set(browser.execute_script(folds)) == {True}
    press(browser, "p")
    assert set(browser.execute_script(folds)) == {False}

    leave(browser, lambda: press(browser, "\ue014"))  # right
    assert browser.current_url != first.split("#")[0]
    assert "0002" in browser.current_url
    leave(browser, lambda: press(browser, "\ue012"))  # left
    assert "0001" in browser.current_url
    leave(browser, lambda: press(browser, "u"))
    assert browser.find_elements("css selector", "table.list")
    press(browser, "/")
    field = browser.switch_to.active_element
    field.send_keys("jkpu/")  # in a field, keys are text
    assert field.get_attribute("value") == "jkpu/"
    assert faults(browser) == []


@pytest.mark.parametrize(("scheme", "size"), [("light", "wide"), ("dark", "narrow")])
def test_two_runs_pages_and_rooms(browser, tmp_path, scheme, size):
    one = played_run(tmp_path / "one", {ALFWORLD: "random", WEBSHOP: "rule"}, tasks=2)
    other = played_run(tmp_path / "other", {ALFWORLD: "explorer", WEBSHOP: "random"}, tasks=2, seed=1)
    look(browser, scheme, size)
    with viewed(one, other) as address:
        browser.get(f"{address}/")
        check(browser)
        follow(browser, "table.list tbody a")
        press(browser, "o")
        assert browser.find_element("css selector", ".places .here .name").is_displayed()
        check(browser)
        shoot(browser, f"room-{scheme}-{size}")
        jump = browser.find_element("css selector", "a.jump")
        press(browser, "i")
        assert here(browser) == [jump.get_attribute("href").split("#")[1]]
        assert browser.find_elements("css selector", ".turn.here .tag.bad")
        leave(browser, lambda: press(browser, "/"))
        assert browser.switch_to.active_element.get_attribute("id") == "text"

        for env in (ALFWORLD, WEBSHOP):
            browser.get(f"{address}/?environment={env}")
            follow(browser, 'table.list tbody a[href^="/difference"]')
            assert len(browser.find_elements("css selector", ".heads > div")) == 2
            check(browser)
            press(browser, "i")
            assert len(here(browser)) == 1
            shoot(browser, f"difference-{env.split('/')[1]}-{scheme}-{size}")
            leave(browser, lambda: press(browser, "u"))
        assert browser.find_elements("css selector", ".shop")
        check(browser)
        shoot(browser, f"shop-{scheme}-{size}")


def test_filters_lead_to_episodes_and_back(address, browser):
    look(browser)
    browser.get(f"{address}/")
    Select(browser.find_element("name", "environment")).select_by_value(WEBSHOP)
    Select(browser.find_element("name", "outcome")).select_by_value("lost")
    follow(browser, "form button")
    rows = browser.find_elements("css selector", "table.list tbody tr")
    assert rows
    assert {row.find_elements("css selector", "td")[0].text for row in rows} == {"lost"}
    count = len(rows)
    follow(browser, "table.list tbody a")
    assert browser.find_element("css selector", ".tag").text == "lost"
    assert f"1 of {count}" in browser.find_element("css selector", "nav .push").text
    follow(browser, 'a[rel="up"]')
    assert Select(browser.find_element("name", "outcome")).first_selected_option.text == "lost"


def test_tokens_are_coloured_and_explained(address, browser):
    look(browser)
    browser.get(f"{address}/")
    follow(browser, "table.list tbody a")
    tokens = browser.find_elements("css selector", "pre.tokens span")
    coloured = [t for t in tokens if t.get_attribute("class").startswith(("up", "down"))]
    assert len(coloured) > len(tokens) / 2
    grounds = {t.value_of_css_property("background-color") for t in coloured}
    assert len(grounds) == 8
    assert "nats, gate" in coloured[0].get_attribute("title")
    assert "the teacher finds it less likely" in browser.find_element("css selector", "body").text


def test_hostile_text_does_nothing(browser, tmp_path):
    look(browser)
    row = episode(0, task_type=HOSTILE, stop_reason=HOSTILE)
    script = "<script>document.title='owned'</script><svg onload=\"document.title='owned'\">" + HOSTILE
    bad = turn(script, script, response=script, messages=[{"role": script, "content": script}])
    folder = write_run(tmp_path / "run", [row], [trajectory(row, [bad], instruction=script)])
    with viewed(folder) as address:
        browser.get(f"{address}/")
        follow(browser, "table.list tbody a")
        shoot(browser, "hostile")
        assert browser.title == row["task_id"]
        assert browser.find_elements("css selector", "main script, main img, main svg") == []
        assert faults(browser) == []
    browser.get(write_report(folder).as_uri())
    assert "owned" not in browser.title
    assert browser.find_elements("css selector", "script, img") == []


class Hostile:
    """A retriever whose passages try to be markup."""

    fingerprint = "hostile"

    def search(self, queries, k):
        contents = f'"</pre><script>document.title = "owned"</script>"\n<answer>Paris</answer></information>{HOSTILE}'
        return [(Hit(Passage("<b>1</b>", contents), 1.0),) * k for _ in queries]


@pytest.mark.parametrize(("scheme", "size"), [("light", "wide"), ("dark", "narrow")])
def test_hostile_passages_do_nothing(browser, tmp_path, scheme, size):
    look(browser, scheme, size)
    suite = PanelSpec("sdar/SearchQA-v0", "test", 6, {"retriever": Hostile()})
    folder = tmp_path / "run"
    evaluate(Plan([suite]), open_agent("question-as-query", {}, [suite.env_id]), out=folder)
    assert read_config(folder)["panels"][0]["env_kwargs"]["retriever"].endswith("test_viewer_browser.Hostile")
    with viewed(folder) as address:
        browser.get(f"{address}/")
        shoot(browser, f"passages-list-{scheme}-{size}")
        check(browser)
        follow(browser, "table.list tbody a")
        shoot(browser, f"passages-{scheme}-{size}")
        check(browser)
        assert "</pre><script>" in browser.find_element("css selector", "main").text
        assert browser.title == "search_qa/invented/test/0000"
        # Another episode is finished while the page is open: reloading shows it, and a torn line does no harm.
        for name in ("episodes.jsonl", "trajectories.jsonl"):
            with open(folder / name, "a") as file:
                file.write((folder / name).read_text().splitlines()[0].replace("test/0000", "test/0099") + "\n{")
        follow(browser, 'a[rel="up"]')
        assert "7 episodes" in browser.find_element("css selector", "p.quiet").text
        assert "is incomplete: it is being written" in browser.find_element("css selector", ".note").text
        assert faults(browser) == []
    browser.get(write_report(folder).as_uri())
    shoot(browser, f"passages-report-{scheme}-{size}")
    check(browser)
    assert "owned" not in browser.title
    assert browser.find_elements("css selector", "script, img") == []


def test_nothing_is_asked_of_other_machines(address, run, browser):
    look(browser)
    browser.get_log("performance")
    browser.get(f"{address}/")
    follow(browser, "table.list tbody a")
    report = write_report(run).as_uri()
    browser.get(report)
    requests = [e["message"] for e in browser.get_log("performance") if 'Network.requestWillBeSent"' in e["message"]]
    assert len(requests) >= 3
    assert [r for r in requests if f'"url":"{address}/' not in r and f'"url":"{report}"' not in r] == []
