"""The shop as a web site: every page, hostile input, many shoppers at once."""

import asyncio
import concurrent.futures
import json
import re
import signal
from functools import cache
from html import unescape
from urllib.parse import parse_qsl, urlencode, urlsplit
from xml.etree import ElementTree

import pytest
from bs4 import BeautifulSoup
from bs4.element import NavigableString
from helpers.live import served
from helpers.sites import EDGE
from starlette.testclient import TestClient

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.errors import InvalidOption
from sdar_envs.http.serving import serve
from sdar_envs.webshop.catalog.loading import CatalogFiles, load_catalog
from sdar_envs.webshop.goals import Goals, GoalTasks
from sdar_envs.webshop.nouns import KnownNouns
from sdar_envs.webshop.pages import Pages
from sdar_envs.webshop.session import Controls, Session, SessionState
from sdar_envs.webshop.shop import Shop
from sdar_envs.webshop.site.pictures import picture
from sdar_envs.webshop.site.site import create_app

HOSTILE = [
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onfocus='alert(1)",
    "../../../etc/passwd",
    "%2e%2e%2f%00",
    "{{7*7}} ${7*7} {% raw %} __import__('os').system('id')",
    "\x00\x01\x1b[31m\x7f\r\n\t",
    "café 漢字 🙂 ﷽ İ Σ e\u0301 \u202e",
    "a/b?c=d&e=f#g%20+h;i",
]


@cache
def shop() -> Shop:
    catalog = load_catalog(CatalogFiles.find(str(EDGE)), human=False)
    nouns = json.loads((EDGE.parent / "title_nouns_edge200.json").read_text())
    return Shop(catalog, SearchIndex.build(catalog.documents()), KnownNouns(nouns))


@cache
def tasks() -> GoalTasks:
    return GoalTasks(Goals(shop().catalog), "sdar/WebShop-v0", "edge")


@pytest.fixture(scope="module")
def site():
    return TestClient(create_app(shop(), tasks()), base_url="http://shop.test", follow_redirects=False)


TASK = "webshop/test/edge-0007"


def session() -> Session:
    goal = tasks().goal(tasks().find(TASK))
    return Session(Controls(shop()), tasks().goals, goal, str(goal.index))


def page_text(session: Session) -> str:
    return Pages(shop()).text(session)


def texts(html: str) -> str:
    nodes = BeautifulSoup(html, "html.parser").find_all(string=True)
    seen = [n for n in nodes if type(n) is NavigableString and n.parent.name not in ("title", "[document]")]
    return " [SEP] ".join(n.strip() for n in seen if n != "\n")


def get(site, path, status=200, /, **fields):
    answer = site.get(f"{path}?{urlencode({'task': TASK, **fields}, errors='replace')}")
    assert answer.status_code == status, answer.text
    assert "default-src 'self'" in answer.headers["content-security-policy"]
    assert "script-src 'none'" in answer.headers["content-security-policy"]
    assert answer.headers["x-content-type-options"] == "nosniff"
    if answer.headers["content-type"].startswith("text/html"):
        check_markup(answer.text)
    return answer.text


def check_markup(html: str) -> None:
    """Nothing is loaded from elsewhere, nothing runs, and every field has a name."""
    soup = BeautifulSoup(html, "html.parser")
    for tag in soup.find_all(True):
        assert tag.name not in ("script", "iframe", "object", "embed", "base", "style")
        assert not [name for name in tag.attrs if name.startswith("on") or name == "style"]
        for name in ("href", "src", "action", "formaction", "data-url"):
            if name in tag.attrs:
                parts = urlsplit(tag[name])
                assert (parts.scheme, parts.netloc) == ("", "")
                assert re.fullmatch(r"/[a-z./]*", parts.path)
    ids = [tag["id"] for tag in soup.find_all(id=True)]
    assert len(ids) == len(set(ids))
    labels = {tag["for"] for tag in soup.find_all("label")}
    for field in soup.select("input:not([type=hidden])"):
        assert field.get("aria-label") or field["id"] in labels
    assert all(image.has_attr("alt") for image in soup.find_all("img"))
    assert soup.html["lang"] == "en"
    assert len(soup.find_all("h1")) == 1 or soup.select_one("#instruction-text")


def product_with_options(count=2):
    return next(p for p in shop().products if len(p.options) >= count and all(all(v) for _, v in p.options))


def test_every_page_has_the_text_of_the_core(site):
    shopper = session()
    assert texts(get(site, "/shop")) == page_text(shopper)
    for query in ["shirt", " ", "<q> x", "<r>", *HOSTILE]:
        keywords = tuple(query.lower().split(" "))
        for page in (1, 2, 7):
            shopper = session()
            shopper.act("search[<r>]" if query == "<r>" else "search[x]")
            if query != "<r>":
                shopper.state = SessionState("search_results", keywords, 1, shop().search(keywords, range))
            shopper.state = shopper.state._replace(page=page)
            assert texts(get(site, "/results", query=query, page=page)) == page_text(shopper)


def test_every_product_has_the_text_of_the_core(site):
    for product in shop().products[::3]:
        shopper = session()
        shopper.state = SessionState("item_page", ("x",), 1, (), product.number)
        html = get(site, "/item", query="x", asin=product.asin)
        assert texts(html) == page_text(shopper)
        radios = [(r["name"], r["value"]) for r in BeautifulSoup(html, "html.parser").select("input[type=radio]")]
        assert radios == [(f"option.{name}", value) for name, values in product.options for value in values]
        for name in ("description", "features", "reviews"):
            page = shopper.copy()
            page.act(f"click[{name}]")
            assert texts(get(site, f"/{name}", query="x", asin=product.asin)) == page_text(page)
        shopper.act("click[buy now]")
        assert texts(get(site, "/done", query="x", asin=product.asin)) == page_text(shopper)


def test_options_stay_chosen_until_the_purchase(site):
    product = product_with_options()
    chosen = {name: values[-1] for name, values in product.options}
    fields = {"query": "x", "asin": product.asin, **{f"option.{name}": value for name, value in chosen.items()}}
    html = get(site, "/item", **fields)
    checked = BeautifulSoup(html, "html.parser").select("input[checked]")
    assert {r["name"].removeprefix("option."): r["value"] for r in checked} == chosen
    back = BeautifulSoup(get(site, "/features", **fields), "html.parser").find("button", string="< Prev").parent
    assert back["action"] == "/item"
    assert {i["name"]: i["value"] for i in back.select("input")} == {"task": TASK, "page": "1", **fields}
    soup = BeautifulSoup(get(site, "/done", **fields), "html.parser")
    assert json.loads(soup.find(id="options").get_text()) == chosen
    shopper = session()
    shopper.state = SessionState("item_page", ("x",), 1, (), product.number, chosen)
    shopper.act("click[buy now]")
    assert float(soup.select_one("#reward pre").get_text()) == shopper.state.purchase.score
    assert json.loads(soup.find(id="reward")["data-breakdown"]) == shopper.state.purchase.breakdown
    assert "webshop%2Ftest%2Fedge-0008" in soup.find("a", attrs={"data-text": "Next task"})["href"]


def test_the_goal_shows_with_the_score_and_not_before(site):
    number = next(i for i in range(200) if len(tasks().goals[i].product.attributes) >= 2)
    task = tasks().task("test", number)
    goal = tasks().goal(task)
    other = next(p for p in shop().products if p.query != goal.product.query and p.asin != goal.product.asin)
    fields = {"task": task.id, "query": other.query, "asin": other.asin}
    secrets = [goal.product.asin, goal.product.title, *goal.attributes]
    pages = [get(site, "/shop", task=task.id)]
    pages += [get(site, f"/{name}", **fields) for name in ("item", "description", "features", "reviews")]
    pages += [get(site, "/api/task", id=task.id), get(site, "/api/tasks"), get(site, "/", split="test")]
    for html in pages:
        # Attributes are named in the instruction; nothing else may hold them.
        rest = unescape(html).replace(goal.instruction, "").replace(other.title, "").replace(other.description, "")
        for bullet in other.bullets:
            rest = rest.replace(bullet, "")
        assert [secret for secret in secrets[:2] if secret in rest] == []
        assert '"data"' not in rest
        assert "goal" not in rest
    assert goal.product.title in unescape(get(site, "/done", **fields))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text(site, text):
    for html in (
        get(site, "/results", query=text),
        get(site, "/item", query=text, asin=shop().products[0].asin),
        get(site, "/shop", 404, task=text),
        get(site, "/item", 404, query="x", asin=text),
        get(site, "/item", 400, query="x", asin=shop().products[0].asin, **{"option.color": text}),
        get(site, "/item", 400, query="x", asin=shop().products[0].asin, **{f"option.{text}": "x"}),
        get(site, "/results", 400, query="x", page=text),
        get(site, "/results", 400, query="x", draws=text),
        get(site, "/", 404, split=text),
        get(site, "/start", 404, split=text),
    ):
        assert "Traceback" not in html
    soup = BeautifulSoup(get(site, "/results", query=text), "html.parser")
    assert soup.find(id="search_again")["value"] == text.lower()
    following = soup.find("button", string="Next >").parent
    assert following.find("input", {"name": "query"})["value"] == text.lower()
    link = soup.select_one(".product-link")
    if link is not None:
        assert dict(parse_qsl(urlsplit(link["href"]).query))["query"] == text.lower()


def test_bad_addresses_are_answered_in_words(site):
    asin = shop().products[0].asin
    for path in ("/nothing", "/../../etc/passwd", "/%2e%2e/%2e%2e/etc/passwd", "/item/../shop/x", "//evil.test/x"):
        answer = site.get(path)
        assert (answer.status_code, "Choose a task" in answer.text) == (404, True)
    assert site.get("/shop").status_code == 400
    assert site.get(f"/item?task={TASK}").status_code == 400
    assert site.post("/shop").status_code == 405
    assert "Did you mean" in get(site, "/shop", 404, task="webshop/test/edge-007")
    for page in ("x", "1.5", "1_0", "１", "", "9999999", "--1"):
        get(site, "/results", 400, query="x", page=page)
        get(site, "/item", 400, query="x", asin=asin, page=page)
    get(site, "/results", 400, query="<a> x")
    get(site, "/results", 400, query="<c>")
    get(site, "/attributes", 404, query="x", asin=asin)
    get(site, "/picture.svg", 404, asin="../../etc/passwd")
    get(site, "/", 404, split="test", start="100000")
    assert site.get("/api/task?id=webshop/test/x").status_code == 404
    assert site.get("/api/task?split=tset&index=0").status_code == 404
    for path, status in (("/api/task?split=test&index=x", 400), ("/api/nothing", 404), ("/api/task?split=test", 200)):
        answer = site.get(path)
        assert (answer.status_code, answer.headers["content-type"]) == (status, "application/json; charset=utf-8")
        assert ("error" in answer.json()) is (status != 200)
    assert site.get(f"/results?task={TASK}&query=").headers["location"].startswith("/shop?")


def test_long_queries():
    for text in ("x" * 100_000, "red shirt " * 10_000, "🙂" * 100_000):
        status, html = ask_directly("/results", {"task": TASK, "query": text})
        assert status == 200
        assert "(Total results: " in html
        assert BeautifulSoup(html, "html.parser").find(id="search_again")["value"] == ""
    status, html = ask_directly("/results", {"task": TASK, "query": "x" * 4_000_001})
    assert (status, "4,000,000 characters" in html) == (414, True)


def ask_directly(path, fields):
    """Without a client, because clients refuse long addresses."""
    sent = []

    async def receive():
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message):
        sent.append(message)

    scope = {"type": "http", "method": "GET", "path": path, "headers": [], "query_string": urlencode(fields).encode()}
    asyncio.run(create_app(shop(), tasks())(scope, receive, send))
    return sent[0]["status"], b"".join(message.get("body", b"") for message in sent).decode()


def test_tasks_can_be_chosen(site):
    html = get(site, "/", split="test")
    links = BeautifulSoup(html, "html.parser").select(".tasks a")
    assert [link.get_text() for link in links] == [tasks().task("test", i).instruction for i in range(20)]
    assert get(site, links[3]["href"].partition("?")[0])
    assert site.get("/start?split=test&number=7").headers["location"] == "/shop?task=webshop%2Ftest%2Fedge-0007"
    assert site.get("/start?split=test&number=").headers["location"].startswith("/shop?task=webshop%2Ftest%2Fedge-")
    assert site.get("/start?split=test&number=500000").status_code == 404
    last = BeautifulSoup(get(site, "/", split="test", start="499"), "html.parser")
    assert len(last.select(".tasks a")) == 1
    done = get(site, "/done", task="webshop/test/edge-0499", query="x", asin=shop().products[0].asin)
    assert "webshop%2Ftest%2Fedge-0000" in done


def test_pictures_are_drawn_from_the_product_alone(site):
    drawn = {picture(product) for product in shop().products}
    assert len(drawn) > 0.9 * len(shop().products)
    for product in shop().products[::10]:
        svg = get(site, "/picture.svg", asin=product.asin)
        assert svg == picture(product)
        names = {element.tag.split("}")[1] for element in ElementTree.fromstring(svg).iter()}
        assert names <= {"svg", "defs", "pattern", "rect", "ellipse", "circle", "path"}
        assert svg.replace("http://www.w3.org/2000/svg", "").find("http") == -1


def test_pictures_have_the_colours_of_the_options(site):
    product = next(p for p in shop().products if len(dict(p.options).get("color", ())) > 1)
    green, red = (picture(product, value) for value in ("forest green", "dark red"))
    assert "hsl(134 50% 38%)" in green
    assert "hsl(2 72% 46%)" in red
    assert get(site, "/picture.svg", asin=product.asin, color="forest green") == green
    colors = dict(product.options)["color"]
    chosen = BeautifulSoup(
        get(site, "/item", query="x", asin=product.asin, **{"option.color": colors[1]}), "html.parser"
    ).find("img")["src"]
    assert dict(parse_qsl(urlsplit(chosen).query)) == {"asin": product.asin, "color": colors[1]}


def test_the_first_button_of_a_product_chooses_its_options(site):
    """It is what Enter on an option presses."""
    product = product_with_options()
    form = BeautifulSoup(get(site, "/item", query="x", asin=product.asin), "html.parser").find("form", class_="item")
    first = form.find("button")
    assert (first["formaction"], first.get_text()) == ("/item", "")


def test_empty_results_give_advice_and_no_next_page(site):
    for fields, advice in (
        ({"query": "zzqq"}, "No product has these words. Try others"),
        ({"query": "zzqq yyqq xxqq wwqq"}, "Try fewer of them"),
        ({"query": shop().products[0].title.lower(), "page": "9"}, "There are no more products"),
    ):
        soup = BeautifulSoup(get(site, "/results", **fields), "html.parser")
        assert (
            soup.find("p", class_="empty")["data-text"].startswith(advice)
            or advice in soup.find("p", class_="empty")["data-text"]
        )
        [following] = [button for button in soup.find_all("button", class_="btn") if button.get_text() == "Next >"]
        assert following.find_parent(class_="unseen") is not None
    soup = BeautifulSoup(get(site, "/results", query="<r>"), "html.parser")
    [following] = [button for button in soup.find_all("button", class_="btn") if button.get_text() == "Next >"]
    assert following.find_parent(class_="unseen") is None


def test_errors_lead_back_to_the_task(site):
    html = get(site, "/item", 404, query="x", asin="NOPE")
    assert f'href="/shop?{urlencode({"task": TASK})}"' in html
    assert tasks().find(TASK).instruction in unescape(html)
    assert "Back to the task" not in get(site, "/shop", 404, task="webshop/test/none")


def test_long_scores_are_shown_in_short(site):
    goal = tasks().goal(tasks().find(TASK))
    for asin in [goal.product.asin, *(product.asin for product in shop().products[:40])]:
        pre = BeautifulSoup(get(site, "/done", query="x", asin=asin), "html.parser").select_one("#reward pre")
        score = pre.get_text()
        assert pre.get("data-text") == (f"{float(score):.2f}" if len(score) > 6 else None)


def test_the_style_sheet_asks_nobody(site):
    css = site.get("/site.css").text
    assert "url(" not in css
    assert "@import" not in css
    assert "prefers-color-scheme: dark" in css


def test_many_shoppers_at_once(site):
    """Interleaved requests of many sessions: each sees its own."""

    def shop_around(number):
        task = tasks().task("test", number)
        goal = tasks().goal(task)
        alone = Session(Controls(shop()), tasks().goals, goal, str(goal.index))
        query = goal.product.title.lower()
        alone.act(f"search[{query}]" if "[" not in query and "]" not in query else "search[x]")
        query = " ".join(alone.state.keywords)
        wrong = texts(get(site, "/results", task=task.id, query=query)) != page_text(alone)
        alone.state = SessionState("item_page", alone.state.keywords, 1, (), goal.product.number)
        alone.act("click[buy now]")
        html = get(site, "/done", task=task.id, query=query, asin=goal.product.asin)
        return wrong or texts(html) != page_text(alone)

    with concurrent.futures.ThreadPoolExecutor(16) as pool:
        assert sum(pool.map(shop_around, range(64))) == 0


def test_a_failure_is_not_shown(site, monkeypatch):
    client = TestClient(create_app(shop(), tasks()), raise_server_exceptions=False)
    monkeypatch.setattr(Shop, "search", lambda *_: 1 / 0)
    answer = client.get(f"/results?task={TASK}&query=x")
    assert answer.status_code == 500
    assert "ZeroDivisionError" not in answer.text
    assert "Something went wrong" in answer.text


def test_the_command_serves_until_interrupted():
    with served("webshop", "--data", "official", "--data-dir", str(EDGE)) as (address, process):
        import requests

        with requests.Session() as web:
            web.trust_env = False
            assert web.get(f"{address}/").status_code == 200
            # 100,000 characters of four bytes each, as a browser or a program would send them.
            long = {"task": web.get(f"{address}/api/task?split=test&index=0").json()["id"], "query": "🙂" * 100_000}
            assert "(Total results: " in web.get(f"{address}/results", params=long).text
        port = urlsplit(address).port
        with pytest.raises(InvalidOption, match="choose another port"):
            serve(create_app(shop(), tasks()), port=port)
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 0
        assert process.stderr.read().strip().splitlines()[-1:] == ["stopped"]
