"""The viewer and the report of a training run, with groups, the teacher's prompt, and gap and gate of each token."""

from __future__ import annotations

import html
import json
import re

import pytest
from helpers.run_folders import HOSTILE, training_run, write_lines
from helpers.viewers import visiting

from sdar_benchmarks.reports.report import write_comparison, write_report


@pytest.fixture
def run(tmp_path):
    return training_run(tmp_path / "run")


def episodes(text: str) -> list[str]:
    return [html.unescape(link) for link in re.findall(r'<th scope="row"><a href="([^"]*)"', text)]


def test_the_list_shows_steps_and_groups(run) -> None:
    with visiting(run) as client:
        text = client.get("/").text
        assert "8 episodes, 4 won" in text
        head = re.findall(r'<th scope="col"[^>]*>([^<]*)</th>', text)
        assert head[5:] == ["group", "score", "step", "advantage", "seed"]
        assert '<td>2-1</td><td class="n">1.000</td><td class="n">2</td><td class="n">+1.000</td>' in text
        assert len(episodes(client.get("/", {"step": "2"}).text)) == 4
        [lost, won] = episodes(client.get("/", {"group": "2-1"}).text)
        assert "advantage -1.000" in client.get(lost).text
        assert "advantage +1.000" in client.get(won).text


def test_without_advantages_there_is_no_column_for_them(run) -> None:
    rows = [json.loads(line) for line in (run / "trajectories.jsonl").read_text().splitlines()]
    write_lines(run / "trajectories.jsonl", [{k: v for k, v in row.items() if k != "advantage"} for row in rows])
    with visiting(run) as client:
        text = client.get("/").text
        assert "advantage" not in text
        assert '<td class="n">1.000</td><td class="n">2</td><td class="n">2011</td></tr>' in text
        assert "advantage" not in client.get(episodes(text)[0]).text


def test_an_episode_leads_to_its_group(run) -> None:
    with visiting(run) as client:
        first = client.get(episodes(client.get("/").text)[0]).text
        [link] = re.findall(r'<a href="(/\?group=[^"]*)">Group 1-0: 2 episodes, 1 won</a>', first)
        assert len(episodes(client.get(html.unescape(link)).text)) == 2
        assert "step 1" in first
        assert "return 0" in first


def test_the_teachers_prompt_stands_beside_the_students(run) -> None:
    with visiting(run) as client:
        text = client.get(episodes(client.get("/").text)[0]).text
    [beside, *_] = re.findall(r'<div class="beside">.*?</section>', text, flags=re.DOTALL)
    student, teacher = beside.split("<h4>Teacher")
    assert "Your task: put a mug on the desk." in student
    assert "Look before you take" not in student
    assert "&lt;|im_start|&gt;system" in teacher
    assert re.findall(r"<mark>([^<]*)</mark>", teacher) == [
        "Skills:\n",
        "- Look before you take: open what is closed.\n",
        "- Carry one thing at a time.\n",
    ]
    assert "Prompt: 2 messages and the teacher&#x27;s" in text


def test_a_long_prompt_of_the_teacher_has_a_page_of_its_own(run) -> None:
    row = json.loads((run / "trajectories.jsonl").read_text().splitlines()[0])
    row["turns"][1]["teacher_prompt"] += "y" * 30_000
    write_lines(run / "trajectories.jsonl", [row])
    with visiting(run) as client:
        text = client.get(episodes(client.get("/").text)[0]).text
        assert "yyyy" not in text
        [there] = [html.unescape(link) for link in re.findall(r'href="(/turn[^"]*)"', text)]
        page = client.get(there).text
    assert "y" * 30_000 in page
    assert "Student&#x27;s prompt" in page or "Student's prompt" in page


def test_tokens_are_coloured_by_gap_and_underlined_by_gate(run) -> None:
    row = json.loads((run / "trajectories.jsonl").read_text().splitlines()[0])
    row["turns"] = row["turns"][:1]
    row["turns"][0]["tokens"] = [
        {"text": "up", "gap": 1.6, "gate": 0.9},
        {"text": "down", "gap": -0.3, "gate": 0.25},
        {"text": "unknown"},
    ]
    write_lines(run / "trajectories.jsonl", [row])
    with visiting(run) as client:
        text = client.get(episodes(client.get("/").text)[0]).text
    assert '<span class="up4 gate4" title="gap +1.600 nats, gate 0.900">up</span>' in text
    assert '<span class="down2 gate1" title="gap -0.300 nats, gate 0.250">down</span>' in text
    assert '<span class="">unknown</span>' in text
    assert "3 tokens, mean gap 0.65, mean gate 0.575" in text
    assert "Colour of a token" in text


def test_the_report_has_curves_examples_and_the_configuration(run) -> None:
    text = write_report(run).read_text()
    assert "<figcaption>rollout/success</figcaption>" in text
    assert text.count('<details class="episode">') == 2  # won and lost, of the last step
    assert '<span class="tag good">won</span> alfworld/train/0000: Put a mug on the desk.' in text
    assert 'class="tokens"' in text
    assert "Colour of a token" in text
    assert "name: sdar" in text
    assert "2026-11-24T10:00:00Z" in text
    assert write_report(run).read_text() == text
    other = training_run(run.parent / "other", seed=1)
    write_comparison([run, other], run.parent / "both.html")
    assert "<figcaption>rollout/success</figcaption>" in (run.parent / "both.html").read_text()


def test_hostile_text_of_a_training_run_stays_text(run) -> None:
    row = json.loads((run / "trajectories.jsonl").read_text().splitlines()[0])
    row |= {"group_id": HOSTILE, "instruction": HOSTILE, "stop_reason": HOSTILE}
    row["turns"][0] |= {"teacher_prompt": HOSTILE, "tokens": [{"text": HOSTILE, "gap": 1.0}], "skills": [HOSTILE]}
    write_lines(run / "trajectories.jsonl", [row])
    with visiting(run) as client:
        listed = client.get("/").text
        pages = [listed, client.get(episodes(listed)[0]).text, write_report(run).read_text()]
    for page in pages:
        assert "<img" not in page
        assert "</script><" not in page
        assert "\u202e" not in page
        assert "\x1b" not in page


@pytest.mark.parametrize("field", ["teacher_prompt", "tokens", "messages", "advantage", "reward"])
@pytest.mark.parametrize("value", [17, {"a": [1]}, [None, [2]], "text", True])
def test_fields_of_unexpected_form_are_shown_all_the_same(run, field: str, value: object) -> None:
    row = json.loads((run / "trajectories.jsonl").read_text().splitlines()[0])
    row["turns"][0][field] = value
    write_lines(run / "trajectories.jsonl", [row])
    with visiting(run) as client:
        page = client.get(episodes(client.get("/").text)[0])
    assert page.status_code == 200
    assert "Turn 1" in page.text
