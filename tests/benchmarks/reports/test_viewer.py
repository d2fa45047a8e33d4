"""The viewer by requests: what it lists, shows and refuses. See test_viewer_browser.py for a real browser."""

from __future__ import annotations

import html
import json
import re
import socket
import time
from contextlib import ExitStack
from pathlib import Path
from urllib.parse import urlencode

import pytest
from helpers.run_folders import HOSTILE, WEBSHOP, episode, trajectory, turn, write_lines, write_run
from helpers.viewers import Visitor, visiting

from sdar_benchmarks.records.trajectories import RunIndex
from sdar_benchmarks.reports.viewer import ViewerServer
from sdar_envs.errors import InvalidOption


@pytest.fixture
def visit():
    with ExitStack() as stack:

        def open_viewer(folder: Path, other: Path | None = None) -> Visitor:
            return stack.enter_context(visiting(folder, other))

        yield open_viewer


def episode_of(task: int = 0, env: str = "sdar/ALFWorld-v0", **more) -> str:
    return "/episode?" + urlencode({"env": env, "task": f"alfworld/valid_unseen/{task:04d}", "seed": 0, **more})


def links(text: str, path: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(rf'href="({path}[^"]*)"', text)]


def rows(text: str) -> list[str]:
    return re.findall(r'<tr><th scope="row"><a[^>]*>([^<]+)</a>', text)


@pytest.fixture
def folder(tmp_path):
    made = [
        episode(0),
        episode(1, is_success=False, score=0.5, stop_reason="step_limit", task_type="look_at_obj_in_light"),
        episode(2, seed=1),
        episode(3, env_id=WEBSHOP, task_type="fashion"),
        episode(
            4, status="error", is_success=False, stop_reason="endpoint_error", error={"type": "Down", "message": "<b>"}
        ),
    ]
    return write_run(tmp_path / "run", made, [trajectory(row) for row in made[:4]])


def test_the_list(visit, folder) -> None:
    page = visit(folder).get("/")
    assert page.status_code == 200
    assert [name[-4:] for name in rows(page.text)] == ["0000", "0001", "0002", "0003", "0004"]
    assert "5 episodes, 3 won" in page.text


@pytest.mark.parametrize(
    ("wanted", "found"),
    [
        ({"environment": WEBSHOP}, ["0003"]),
        ({"type": "look_at_obj_in_light"}, ["0001"]),
        ({"outcome": "won"}, ["0000", "0002", "0003"]),
        ({"outcome": "lost"}, ["0001"]),
        ({"outcome": "error"}, ["0004"]),
        ({"with_seed": "1"}, ["0002"]),
        ({"text": "UNSEEN/0001"}, ["0001"]),
        ({"text": "mug on"}, ["0000", "0001", "0002", "0003"]),
        ({"text": "step_limit"}, ["0001"]),
        ({"outcome": "won", "with_seed": "0", "text": "mug"}, ["0000", "0003"]),
        ({"type": "no such type"}, []),
    ],
)
def test_filters(visit, folder, wanted: dict[str, str], found: list[str]) -> None:
    text = visit(folder).get("/", params=wanted).text
    assert [name[-4:] for name in rows(text)] == found
    for name, value in wanted.items():
        # What the list is filtered by can be seen, and goes along with the links.
        assert f'value="{value}"' in text
        assert all(f"{name}=" in link for link in links(text, "/episode"))
    assert ("No episode is like that" in text) == (not found)


def test_an_episode_and_its_neighbours_in_the_filter(visit, folder) -> None:
    client = visit(folder)
    [_, third, _] = links(client.get("/", params={"outcome": "won"}).text, "/episode")
    page = client.get(third).text
    assert "2 of 3" in page
    previous, following = (re.search(f'<a href="([^"]*)" rel="{name}"', page)[1] for name in ("prev", "next"))
    assert "0000" in previous
    assert "0003" in following
    assert "outcome=won" in previous
    assert client.get(html.unescape(following)).status_code == 200
    assert client.get(html.unescape(re.search('href="([^"]*)" rel="up"', page)[1])).status_code == 200


def test_a_turn_shows_all_that_was_recorded(visit, tmp_path) -> None:
    tokens = [
        {"text": "take ", "gap": 0.5, "gate": 0.924},
        {"text": "mug", "gap": -2.0, "gate": 0.0},
        {"text": "!", "gap": None},
        "odd",
    ]
    full = turn(
        "A desk.",
        "take mug 1",
        messages=[{"role": "system", "content": "Play well."}, {"role": "user", "content": "A desk."}],
        response="never shown beside tokens",
        reasoning="I need a mug.",
        is_well_formed=False,
        is_action_valid=False,
        score=0.25,
        tokens=tokens,
        skills=["general/look", "pick/where"],
    )
    write_run(tmp_path, [episode(0)], [trajectory(episode(0), [full, turn(response="plain")])])
    text = visit(tmp_path).get(episode_of()).text
    for part in (
        "A desk.",
        "Play well.",
        "I need a mug.",
        "take mug 1",
        "general/look",
        "malformed answer",
        "invalid action",
        "score 0.25",
        "plain",
    ):
        assert part in text, part
    assert "Prompt: 2 messages" in text
    assert '<span class="up2 gate4" title="gap +0.500 nats, gate 0.924">take </span>' in text
    assert '<span class="down4" title="gap -2.000 nats, gate 0.000">mug</span>' in text
    assert '<span class="">!</span>' in text
    assert "4 tokens, mean gap -0.75, mean gate 0.462" in text
    assert "never shown" not in text
    assert "Colour of a token" in text  # the legend
    assert "You won." in text  # the last observation
    assert 'class="says action refused"' in text


def test_the_first_failing_turn_is_a_link(visit, tmp_path) -> None:
    row = episode(0)
    fine, refused = turn(), turn(action="dance", is_action_valid=False)
    cut = turn(response="<think>I", is_well_formed=True, finish_reason="length")
    visitor = visit(write_run(tmp_path / "refused", [row], [trajectory(row, [fine, fine, refused, refused])]))
    assert '<a class="jump" href="#t3">First failing turn: 3</a>' in visitor.get(episode_of(0)).text
    visitor = visit(write_run(tmp_path / "cut", [row], [trajectory(row, [fine, cut])]))
    text = visitor.get(episode_of(0)).text
    assert "First failing turn: 2" in text
    assert text.count('<span class="tag bad">cut at the token limit</span>') == 1
    visitor = visit(write_run(tmp_path / "fine", [row], [trajectory(row, [fine])]))
    assert "First failing turn" not in visitor.get(episode_of(0)).text


def test_pages_of_a_shop_and_rooms(visit, tmp_path) -> None:
    page = f"Instruction: [SEP] {HOSTILE} [SEP] Back to Search [SEP] Page 1 (Total results: 1) [SEP] Next > [SEP] "
    page += "B000000001 [SEP] <b>Shoe</b> [SEP] $9.99"
    room = "You are in the middle of a room. Looking quickly around you, you see a desk 10, a desk 2, and a shelf 1."
    rows = [episode(0), episode(1)]
    made = [
        trajectory(rows[0], [turn(page, "click[b000000001]")], final_observation="Thank you for shopping with us!"),
        trajectory(rows[1], [turn(room, "go to desk 2")], final_observation="On the desk 2, you see a <i>mug 1."),
    ]
    visitor = visit(write_run(tmp_path / "run", rows, made))
    shop = visitor.get(episode_of(0)).text
    assert '<div class="shop">' in shop
    assert '<span class="price">$9.99</span>\n<span>&lt;b&gt;Shoe&lt;/b&gt; <code>B000000001</code></span>' in shop
    assert "<script>alert" not in shop
    assert "<img" not in shop
    assert "[SEP]" in shop  # the page as text
    text = visitor.get(episode_of(1)).text
    assert "The room: 0 of 3 receptacles seen" in text
    assert "Not seen yet: desk 2, desk 10, shelf 1" in text
    assert "The room: 1 of 3 receptacles seen" in text


def test_two_runs_side_by_side(visit, tmp_path) -> None:
    first, second = episode(0), episode(0, is_success=False, stop_reason="step_limit")
    here = [turn("A.", "look"), turn("B.", "take mug 1"), turn("C.", "go to desk 1", is_action_valid=False)]
    there = [turn("A.", "look"), turn(f"X {HOSTILE}", "open desk 1", response="<b>"), *here[1:]]
    one = write_run(tmp_path / "one", [first, episode(1)], [trajectory(first, here), trajectory(episode(1))])
    other = write_run(tmp_path / "other", [second], [trajectory(second, there)])
    visitor = visit(one, other)
    listed = visitor.get("/").text
    assert '<th scope="col">in other</th>' in listed
    [address] = links(listed, "/difference")
    assert address in links(visitor.get(episode_of(0)).text, "/difference")
    assert links(visitor.get(episode_of(1)).text, "/difference") == []
    page = visitor.get(address)
    assert page.status_code == 200
    assert "The first 1 actions are the same." in page.text
    assert '<a class="jump" href="#d2">First difference</a>' in page.text
    assert re.findall(r'class="turn beside (\w+)"', page.text) == ["same", "differs", "same", "same"]
    assert re.findall(r"<h3>Turn (\d)", page.text) == ["1", "1", "2", "2", "3", "3", "4"]
    assert page.text.count('<span class="tag bad">invalid action</span>') == 2
    # What both saw is folded, and nothing of it is markup.
    assert page.text.count('<details class="fold" open>') == 1
    assert "<script>" not in page.text.replace('<script src="/view.js" defer></script>', "")
    assert visitor.get(address.replace("0000", "0001")).status_code == 404
    assert visit(one).get(address).status_code == 404


def test_two_runs_with_other_seeds_and_without_trajectories(visit, tmp_path) -> None:
    first = episode(0)
    one = write_run(tmp_path / "one", [first], [trajectory(first)])
    seeds = [episode(0, seed=3), episode(0, seed=4)]
    visitor = visit(one, write_run(tmp_path / "other", seeds, [trajectory(seeds[0])]))
    address = links(visitor.get("/").text, "/difference")[0]
    text = visitor.get(address).text
    assert "The other run played this task with the seed 3." in text
    assert "All actions are the same." in text
    bare = write_run(tmp_path / "bare", [first], [])
    assert visit(one, bare).get(address).status_code == 404


def test_without_tokens_there_is_no_legend(visit, folder) -> None:
    text = visit(folder).get(episode_of()).text
    assert "Colour of a token" not in text
    assert "Prompt" not in text.split("Keys:")[0]


def test_a_long_prompt_has_a_page_of_its_own(visit, tmp_path) -> None:
    messages = [{"role": "user", "content": "y" * 30_000}]
    write_run(tmp_path, [episode(0)], [trajectory(episode(0), [turn(), turn(messages=messages)])])
    client = visit(tmp_path)
    text = client.get(episode_of()).text
    assert "y" * 1000 not in text
    [there] = links(text, "/turn")
    prompt = client.get(there).text
    assert "y" * 30_000 in prompt
    assert client.get(links(prompt, "/episode")[0]).status_code == 200
    assert "There is none." in client.get(there.replace("turn=2", "turn=1")).text


def test_hostile_text_stays_text(visit, tmp_path) -> None:
    row = episode(0, task_id=HOSTILE, env_id=HOSTILE, task_type=HOSTILE, stop_reason=HOSTILE)
    row["error"] = {"type": HOSTILE, "message": HOSTILE}
    token = {"text": HOSTILE, "gap": 1, "gate": 1}
    bad = turn(HOSTILE, HOSTILE, response=HOSTILE, reasoning=HOSTILE, messages=[{"role": HOSTILE, "content": HOSTILE}])
    bad |= {"skills": [HOSTILE], "admissible_commands": [HOSTILE], "tokens": [token]}
    write_run(tmp_path, [row], [trajectory(row, [bad], instruction=HOSTILE)])
    client = visit(tmp_path)
    listed = client.get("/", params={"text": HOSTILE[:9], "type": '"><img src=x>'})
    pages = [client.get("/"), listed, client.get(links(client.get("/").text, "/episode")[0])]
    # Halves of surrogate pairs do not fit into an address; the episode is then not found, but nothing breaks.
    assert [page.status_code for page in pages[:2]] == [200, 200]
    for page in pages:
        assert "<img" not in page.text
        assert "</script><" not in page.text
        assert "\u202e" not in page.text
        assert "\x1b" not in page.text


@pytest.mark.parametrize(
    "field", ["observation", "messages", "response", "action", "skills", "tokens", "admissible_commands"]
)
@pytest.mark.parametrize("value", [17, {"a": [1]}, [None, [2]], "text", True])
def test_fields_of_unexpected_form_are_shown_all_the_same(visit, tmp_path, field: str, value: object) -> None:
    write_run(tmp_path, [episode(0)], [trajectory(episode(0), [turn(**{field: value})])])
    page = visit(tmp_path).get(episode_of())
    assert page.status_code == 200
    assert "Turn 1" in page.text


def test_a_run_that_is_being_written(visit, tmp_path) -> None:
    write_run(tmp_path, [], [])
    client = visit(tmp_path)
    assert "No episode is finished yet" in client.get("/").text
    with open(tmp_path / "trajectories.jsonl", "ab") as file:
        file.write(json.dumps(trajectory(episode(0))).encode() + b"\n{")
    text = client.get("/").text
    assert [name[-4:] for name in rows(text)] == ["0000"]
    assert "incomplete" in text


def test_many_episodes_come_in_pages(visit, tmp_path) -> None:
    write_run(tmp_path, [episode(i) for i in range(250)])
    client = visit(tmp_path)
    first = client.get("/").text
    assert len(rows(first)) == 100
    second = client.get(html.unescape(re.search('<a href="([^"]*)" rel="next"', first)[1])).text
    assert rows(second)[0][-4:] == "0100"
    assert "101 to 200 of 250" in second
    assert rows(client.get("/?start=99999").text)[0][-4:] == "0200"
    assert rows(client.get("/?start=-5").text)[0][-4:] == "0000"


@pytest.mark.parametrize(
    ("address", "status", "says"),
    [
        (episode_of(9), 404, "no episode of the task"),
        ("/episode", 404, "no episode of the task"),
        (episode_of(seed="1_0"), 400, "wanted a whole number"),
        ("/?start=x", 400, "start is"),
        (episode_of(4).replace("/episode", "/turn") + "&turn=1", 404, "no trajectory"),
        (episode_of().replace("/episode", "/turn") + "&turn=9", 404, "it has 2, from 1"),
        ("/../config.json", 404, "Not Found"),
        ("/nothing", 404, "Not Found"),
        ("//[", 404, "Not Found"),
        ("http://[", 400, "malformed"),
    ],
)
def test_refusals(visit, folder, address: str, status: int, says: str) -> None:
    page = visit(folder).get(address)
    assert page.status_code == status
    assert says in page.text


def test_an_episode_that_failed_says_why(visit, folder) -> None:
    text = visit(folder).get(episode_of(4)).text
    assert "Down: &lt;b&gt;" in text
    assert "has no trajectory of this episode" in text


def test_a_damaged_trajectory_is_an_error_page(visit, folder) -> None:
    client = visit(folder)
    assert client.get(episode_of()).status_code == 200
    content = (folder / "trajectories.jsonl").read_bytes()
    (folder / "trajectories.jsonl").write_bytes(content.replace(b'"turns": [{', b'"turns": [}', 1))
    page = client.get(episode_of())
    assert page.status_code == 500
    assert "cannot be read" in page.text


def test_a_file_that_was_replaced_is_read_anew(visit, folder) -> None:
    client = visit(folder)
    client.get("/")
    write_lines(folder / "trajectories.jsonl", [trajectory(episode(7))])
    write_lines(folder / "episodes.jsonl", [episode(7)])
    assert [name[-4:] for name in rows(client.get("/").text)] == ["0007"]


def test_only_this_machine_by_its_names(visit, folder) -> None:
    client = visit(folder)
    assert client.get("/", host="evil.example:3030").status_code == 400
    assert client.get("/", host="localhost:3030").status_code == 200
    assert client.get("/", host="LOCALHOST").status_code == 200
    assert client.get("/", host="").status_code == 400
    assert "evil.example" in client.get("/", host="evil.example:3030").text


def test_a_server_on_another_address_answers_to_any_name(folder) -> None:
    with ViewerServer(RunIndex(folder), host="0.0.0.0") as server:
        assert server.hosts is None
    with ViewerServer(RunIndex(folder), host="localhost") as server:
        assert "evil.example" not in (server.hosts or ())


def test_a_port_that_is_taken_is_refused_in_one_line(folder) -> None:
    with ViewerServer(RunIndex(folder)) as server, pytest.raises(InvalidOption, match="cannot listen on 127"):
        ViewerServer(RunIndex(folder), port=server.server_address[1])


def test_no_host_is_not_all_of_them(folder) -> None:
    with pytest.raises(InvalidOption, match="host is ''; wanted an address to listen on"):
        ViewerServer(RunIndex(folder), host="")


def test_a_request_that_trickles_is_given_up(visit, folder, monkeypatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.reports.viewer._HEAD_SECONDS", 0.3)
    client = visit(folder)
    with socket.create_connection(("127.0.0.1", client.port), timeout=0.05) as connection:
        began = time.monotonic()
        connection.sendall(b"GET / HTTP/1.1\r\n")
        for _ in range(200):
            try:
                connection.sendall(b"X-More: x\r\n")
                if connection.recv(1) == b"":
                    break
            except TimeoutError:
                continue
            except OSError:  # closed while something was on its way
                break
        assert 0.2 < time.monotonic() - began < 8


def test_only_reading_is_allowed(visit, folder) -> None:
    client = visit(folder)
    head, page = client.ask("HEAD", "/"), client.get("/")
    assert (head.status_code, head.text) == (200, "")
    assert head.headers["content-length"] == page.headers["content-length"]
    for method in ("POST", "DELETE"):
        refused = client.ask(method, "/")
        assert refused.status_code == 501
        assert "This cannot be shown" in refused.text
        assert "default-src 'none'" in refused.headers["content-security-policy"]


def test_an_error_of_the_viewer_is_a_page_and_a_traceback(visit, folder, monkeypatch, capsys) -> None:
    client = visit(folder)
    monkeypatch.setattr(RunIndex, "refresh", lambda self: 1 / 0)
    page = client.get("/")
    assert page.status_code == 500
    assert "its terminal says what" in page.text
    assert "ZeroDivisionError" in capsys.readouterr().err


def test_every_answer_forbids_foreign_content(visit, folder) -> None:
    client = visit(folder)
    for address in ("/", episode_of(), "/nothing", "/view.css", "/view.js", "/favicon.ico"):
        headers = client.get(address).headers
        assert "default-src 'none'" in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
    assert "url(" not in client.get("/view.css").text
    assert "style=" not in client.get(episode_of()).text
