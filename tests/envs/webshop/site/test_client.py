"""The environment on a web site, in lock-step with the environment in the process."""

import ast
import json
import random
import socket
import time
import warnings
from html import escape
from urllib.parse import parse_qs, quote

import pytest
from helpers.live import running
from helpers.retrieval_servers import SLOW, speaking
from helpers.sites import EDGE
from starlette.applications import Starlette
from starlette.responses import HTMLResponse, RedirectResponse
from starlette.routing import Route

from sdar_envs.checker import check_env
from sdar_envs.errors import EpisodeOver, InvalidOption, UnknownName, UnsolvableGame
from sdar_envs.webshop.env import WebShopEnv
from sdar_envs.webshop.session import Controls, Session
from sdar_envs.webshop.shop import open_shop
from sdar_envs.webshop.site.client import SiteError, WebShopClientEnv
from sdar_envs.webshop.site.site import create_app

# Queries and values that the original's URLs trip over, forms that are no action, all kinds of characters.
ODD = [
    "",
    "search[]",
    "click[]",
    "search[ ]",
    " search[x]",
    "Search[x]",
    "Click[back to search]",
    "search[a [b] c]",
    "search[x] and more",
    "search[x\ny]",
    "search[search_results]",
    "search[item_page done]",
    "search[item_sub_page]",
    "search[<r>]",
    "search[<a> x]",
    "search[<c>]",
    "search[<c> beauty]",
    "search[<q> x]",
    "click[search]",
    "click[Next >]",
    "click[< PREV]",
    "click[nothing]",
    "click[Tasks]",
    "click[Next task]",
    "search[<script>alert(1)</script>]",
    "search[../../etc/passwd]",
    "search[a/b?c=d&e=f#g%20+h;i]",
    "search[\x00\x01\x1f\x7f tab\there\r]",
    "search[café 漢字 🙂 İ ΑΣ e\u0301]",
    "search[\ud800 red]",
    "search[\"'<>&;%s%00{{7*7}}]",
    "search[" + "red " * 3000 + "]",
    "click[" + "a" * 5000 + "]",
]


@pytest.fixture(scope="module")
def edge():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # without spaCy the nouns are guessed, here as on the site
        env = WebShopEnv(data="official", data_dir=str(EDGE), split="test", max_steps=30)
        shop = open_shop("official", data_dir=str(EDGE))
    with running(create_app(shop, env.source)) as address:
        client = WebShopClientEnv(address, split="test", max_steps=30)
        yield env, client, address
        client.close()


@pytest.fixture(scope="module", params=["original", "fixed"])
def embedded(request):
    env = WebShopEnv(split="test", max_steps=30, quirks=request.param)
    with running(create_app(open_shop("embedded"), env.source, quirks=request.param)) as address:
        client = WebShopClientEnv(address, split="test", max_steps=30)
        yield env, client, address
        client.close()


def in_step(env, client, task_id, choose, steps=30):
    """Play one episode on both and return the number of steps."""
    here, there = env.reset(options={"task_id": task_id}), client.reset(options={"task_id": task_id})
    assert there == here
    for number in range(steps):
        action = choose(number, here[-1])
        if action is None:
            return number
        here, there = env.step(action), client.step(action)
        assert there == here, action[:200]
        if here[2] or here[3]:
            break
    return number + 1


def random_choice(env, rng):
    def choose(number, info):
        clickables = info["available_actions"]["clickables"]
        kind = rng.random()
        if kind < 0.15:
            return rng.choice(ODD)
        if kind < 0.3 or clickables == ["search"]:
            product = rng.choice([*env.goal.product.query.split(" "), env.goal.product.title, info["instruction"]])
            return f"search[{product}]"
        name = rng.choice(clickables)
        if name == "buy now" and rng.random() < 0.7:
            name = rng.choice(clickables[:5])
        return f"click[{name.upper() if kind > 0.9 else name}]"

    return choose


def test_random_episodes_are_equal(edge):
    env, client, _ = edge
    rng = random.Random(0)
    size = env.source.splits["test"]
    tasks = [env.source.task("test", rng.randrange(size)).id for _ in range(25)]
    assert sum(in_step(env, client, task_id, random_choice(env, rng)) for task_id in tasks) > 400


def test_random_episodes_of_the_embedded_catalogue_are_equal(embedded):
    env, client, _ = embedded
    rng = random.Random(1)
    tasks = [env.source.task("test", rng.randrange(500)).id for _ in range(8)]
    assert sum(in_step(env, client, task_id, random_choice(env, rng)) for task_id in tasks) > 100


def test_odd_actions_are_equal_on_every_page(edge):
    env, client, _ = edge
    first = next(p for p in open_shop("official", data_dir=str(EDGE)).products if len(p.options) > 1)
    ways = [[], [f"search[{first.title}]"], [f"search[{first.title}]", f"click[{first.asin}]"]]
    ways.append([*ways[-1], "click[features]"])
    for way in ways:
        for action in ODD:
            script = [*way, action, "click[< prev]", "click[buy now]"]
            in_step(env, client, env.source.task("test", 3).id, lambda n, _, s=script: s[n] if n < len(s) else None)


def test_every_option_can_be_bought_alike(edge):
    env, client, _ = edge
    shop = open_shop("official", data_dir=str(EDGE))
    for product in [p for p in shop.products if p.options][::12]:
        clicks = [f"click[{value}]" for _, values in product.options for value in values][:20]
        script = [f"search[{product.title}]", f"click[{product.asin}]", *clicks, "click[reviews]", "click[buy now]"]
        in_step(env, client, env.source.task("test", 5).id, lambda n, _, s=script: s[n] if n < len(s) else None)


def test_the_oracle_wins_on_the_site(embedded):
    env, client, _ = embedded
    won = 0
    for index in range(20):
        task_id = env.source.task("test", index).id
        env.reset(options={"task_id": task_id})
        try:
            plan = env.oracle_plan()
        except UnsolvableGame:
            continue
        client.reset(options={"task_id": task_id})
        for action in plan:
            *_, info = client.step(action)
        won += info["won"]
        assert info["score"] == 1.0
    assert won >= 15


def test_a_seed_gives_the_same_task(edge):
    env, client, _ = edge
    for seed in range(5):
        assert client.reset(seed=seed) == env.reset(seed=seed)
        assert client.reset() == env.reset()


def test_snapshots(edge):
    _, client, _ = edge
    client.reset(seed=0)
    client.step("search[shirt]")
    snapshot = client.snapshot()
    after = client.step("click[next >]")
    client.restore(snapshot)
    assert client.step("click[next >]") == after


def test_the_contract(edge):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        check_env(edge[1])


def test_what_the_site_does_not_have(edge):
    _, client, address = edge
    with pytest.raises(UnknownName, match="no task"):
        client.reset(options={"task_id": "webshop/test/9999"})
    with pytest.raises(EpisodeOver):
        client.step("search[x]")
    with pytest.raises(UnknownName, match="no split 'tset'"):
        WebShopClientEnv(address, split="tset")
    with pytest.raises(InvalidOption, match="wanted the address"):
        WebShopClientEnv("file:///etc/passwd")
    with pytest.raises(InvalidOption, match="timeout"):
        WebShopClientEnv(address, timeout=0)
    with pytest.raises(InvalidOption, match="retries"):
        WebShopClientEnv(address, retries=-1)


def test_a_site_that_is_gone_is_named():
    with pytest.raises(SiteError, match="sdar serve webshop"):
        WebShopClientEnv("http://127.0.0.1:9", retries=1, timeout=2)


def test_a_site_that_goes_while_playing():
    env = WebShopEnv(split="test")
    with running(create_app(open_shop("embedded"), env.source)) as address:
        client = WebShopClientEnv(address, split="test", retries=0, timeout=5)
        client.reset(seed=0)
    with pytest.raises(SiteError, match="gives no answer"):
        client.step("search[x]")
    client.close()


def test_a_site_that_hangs_or_is_another():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        started = time.monotonic()
        with pytest.raises(SiteError, match="gives no answer"):
            WebShopClientEnv(address, timeout=0.3, retries=0)
        assert time.monotonic() - started < 5

    async def other(scope, receive, send):
        if scope["type"] == "http":
            await send({"type": "http.response.start", "status": 200, "headers": []})
            await send({"type": "http.response.body", "body": b"<html>hello"})

    with running(other) as address, pytest.raises(SiteError, match="neither"):
        WebShopClientEnv(address)


@pytest.mark.parametrize("name", ["trickles its head", "trickles its body"])
def test_a_site_that_trickles_is_given_up_in_time(name):
    with speaking(SLOW[name]) as address:
        started = time.monotonic()
        with pytest.raises(SiteError, match="timed out"):
            WebShopClientEnv(address, timeout=0.3, retries=0)
        assert time.monotonic() - started < 5


def originals_site(env):
    """A site with the addresses and the markup of the original's: state in paths, posted forms, a telling last page."""

    def page(*nodes):
        head = "<!DOCTYPE html>\n<html><head><title>WebShop</title></head>\n<body>\n"
        return HTMLResponse(head + "\n".join(nodes) + "\n</body></html>")

    def visit(request):
        number = int(request.path_params["sid"].removeprefix("fixed_"))
        goals = env.source.goals
        shopper = Session(Controls(open_shop("embedded")), goals, goals[number], str(number))
        words = request.path_params.get("words")
        if words:
            shopper.act(f"search[{words}]")
            shopper.state = shopper.state._replace(page=int(request.path_params["page"]))
        if "asin" in request.path_params:
            product = next(p for p in open_shop("embedded").products if p.asin == request.path_params["asin"])
            shopper.state = shopper.state._replace(page_name="item_page", product=product.number)
            options = ast.literal_eval(request.path_params["options"])
            shopper.state = shopper.state._replace(options=options)
        return shopper

    def say(shopper):
        return f'<div id="instruction-text">\n<h4>Instruction: <br>{escape(shopper.goal.instruction)}</h4>\n</div>'

    def post(path, label, css="btn btn-primary"):
        button = f'<button type="submit" class="{css}">{label}</button>'
        return f'<form method="post" action="{escape(quote(path))}">\n{button}\n</form>'

    def there(shopper, asin, options):
        return f"{shopper.id}/{asin}/{' '.join(shopper.state.keywords)}/{shopper.state.page}/{options}"

    async def index(request):
        shopper = visit(request)
        if request.method == "POST":
            fields = parse_qs((await request.body()).decode())
            if "search_query" in fields:
                words = quote(fields["search_query"][0].lower())
                return RedirectResponse(f"/search_results/fixed_{shopper.id}/{words}/1", status_code=302)
        bar = '<input id="search_input" type="text" name="search_query" required/>'
        button = '<button class="btn btn-success" type="submit"><i></i>Search</button>'
        form = f'<form method="post" action="/fixed_{shopper.id}">\n{bar}\n{button}\n</form>'
        return page("<h2>WebShop</h2>", say(shopper), form)

    def results(request):
        shopper, words = visit(request), request.path_params["words"]
        number = shopper.state.page
        nodes = [say(shopper), post(f"/fixed_{shopper.id}", "Back to Search")]
        nodes.append(f"<p>Page {number} (Total results: {len(shopper.state.results)})</p>")
        if number > 1:
            nodes.append(post(f"/search_results/fixed_{shopper.id}/{words}/{number - 1}", "&lt; Prev"))
        nodes.append(post(f"/search_results/fixed_{shopper.id}/{words}/{number + 1}", "Next &gt;"))
        for found in shopper.state.results[(number - 1) * 10 : number * 10]:
            product = open_shop("embedded").products[found]
            link = escape(quote(f"/item_page/fixed_{there(shopper, product.asin, {})}"))
            nodes += [f'<h4><a class="product-link" href="{link}">{product.asin}</a></h4>']
            nodes += [f"<h4>{escape(product.title)}</h4>", f"<h5>{product.price_tag}</h5>"]
        return page(*nodes)

    def item(request):
        shopper = visit(request)
        product, options = open_shop("embedded").products[shopper.state.product], dict(shopper.state.options)
        words, number = " ".join(shopper.state.keywords), shopper.state.page
        nodes = [say(shopper), post(f"/fixed_{shopper.id}", "Back to Search")]
        nodes.append(post(f"/search_results/fixed_{shopper.id}/{words}/{number}", "&lt; Prev"))
        for name, values in product.options:
            nodes.append(f"<h4>{escape(name)}</h4>")
            for value in values:
                link = escape(quote(f"/item_page/fixed_{there(shopper, product.asin, {**options, name: value})}"))
                nodes.append(
                    f'<input type="radio" name="{escape(name)}" value="{escape(value)}" data-url="{link}">'
                    f"<label>{escape(value)}</label>"
                )
        nodes += [f"<h2>{escape(product.title)}</h2>", f"<h4>Price: {product.price_tag}</h4>", "<h4>Rating: N.A.</h4>"]
        nodes += [post("/nowhere", name) for name in ("Description", "Features", "Reviews")]
        nodes.append(post(f"/done/fixed_{there(shopper, product.asin, options)}", "Buy Now", "btn btn-lg purchase"))
        return page(*nodes)

    def done(request):
        shopper = visit(request)
        goal, options = shopper.goal, dict(shopper.state.options)
        shopper.act("click[buy now]")
        asin = open_shop("embedded").products[shopper.state.product].asin
        bought = {"purchased_attrs": "attrs", "purchased-category": "category", "purchased-query": "query"}
        bought["purchased-pc"] = "product category"
        wanted = {"goal-asin": "asin", "goal-options": "options", "goal-attrs": "attrs", "goal-price": "price upper"}
        wanted |= {"goal-instruction-text": "instuction text", "goal-category": "category"}
        wanted |= {"goal-pc": "product category", "goal-query": "query"}
        return page(
            '<div id="stats">',
            "<h1>Thank you for shopping with us!</h1>",
            "<h3>Your code: </h3>",
            "<p><pre>AB12</pre> (Paste it in your MTurk interface.)</p>",
            "<h2>Purchased</h2>",
            f'<h4 id="asin">asin<pre>{asin}</pre></h4>',
            f'<h4 id="options">options<pre>{json.dumps(options, sort_keys=True)}</pre></h4>',
            *(f'<h4 id="{key}">{name}<pre>{escape(str(goal.attributes))}</pre></h4>' for key, name in bought.items()),
            "<h2>Target</h2>",
            *(f'<h4 id="{key}">{name}<pre>{escape(goal.product.title)}</pre></h4>' for key, name in wanted.items()),
            f'<h4>Goal <div id="goal"><pre>{escape(repr(goal))}</pre></div></h4>',
            "<h2>Reward</h2>",
            f'<h3 id="reward">Your score (min 0.0, max 1.0)<pre>{shopper.state.purchase.score}</pre></h3>',
            '<h4 hidden>Reward Details <div id="reward_info"><pre>{}</pre></div></h4>',
            "</div>",
        )

    both = {"methods": ["GET", "POST"]}
    where = "{sid}/{asin}/{words}/{page}/{options}"
    return Starlette(
        routes=[
            Route("/{sid}", index, **both),
            Route("/search_results/{sid}/{words}/{page}", results, **both),
            Route(f"/item_page/{where}", item, **both),
            Route(f"/done/{where}", done, **both),
        ]
    )


def test_the_originals_site_can_be_played():
    env = WebShopEnv(split="test")
    played = 0
    with running(originals_site(env)) as address:
        client = WebShopClientEnv(address)
        assert dict(client.source.splits) == {"fixed": None}
        for number in range(10):
            here, info = env.reset(options={"task_id": f"webshop/test/{number:04d}"})
            there, other = client.reset(options={"task_id": f"webshop/fixed/{number:04d}"})
            assert (there, other["instruction"]) == (here, info["instruction"])
            try:
                plan = env.oracle_plan()
            except UnsolvableGame:
                continue
            for action in ("click[nothing]", plan[0], "click[next >]", "click[< prev]", *plan[1:]):
                *here, info = env.step(action)
                *there, other = client.step(action)
                assert there == here
                for key in ("available_actions", "admissible_commands", "score", "won", "is_action_valid"):
                    assert other[key] == info[key]
            assert info["score"] == 1.0
            played += 1
        # A search is possible on every page, although its pages have no search bar.
        client.reset(options={"task_id": "webshop/fixed/0000"})
        first = client.step("search[shirt]")
        assert client.step("search[shirt]")[0] == first[0]
        with pytest.raises(UnknownName, match="webshop/fixed/0007"):
            client.reset(options={"task_id": "webshop/test/0007"})
        client.close()
    assert played >= 5
