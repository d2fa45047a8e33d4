"""Reports: what they say, that they follow from the files alone, and that nothing gets out of them."""

from __future__ import annotations

import html
import re
import subprocess
import sys
from html.parser import HTMLParser

import pytest
from helpers.run_folders import (
    ALFWORLD,
    HOSTILE,
    WEBSHOP,
    config,
    episode,
    played_run,
    training_metrics,
    trajectory,
    turn,
    write_lines,
    write_run,
)
from helpers.viewers import visiting

from sdar_benchmarks.analysis.summary import summarize
from sdar_benchmarks.cli.main import make_parser
from sdar_benchmarks.records.runs import read_episodes
from sdar_benchmarks.reports.report import VIEWER, write_comparison, write_report
from sdar_envs.errors import InvalidOption, MissingData

VOID = {"meta", "link", "input", "line", "rect", "polyline", "polygon", "path"}


class Balanced(HTMLParser):
    """Refuses markup whose tags do not match, and collects ids, links and the cells of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.tags: set[str] = set()
        self.cells: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.ids += [value for name, value in attrs if name == "id"]
        if tag not in VOID:
            self.open.append(tag)
        if tag in ("td", "th"):
            self.cells.append("")

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and {"td", "th"} & set(self.open):
            self.cells[-1] += data


def parsed(path) -> Balanced:
    parser = Balanced()
    parser.feed(path.read_text())
    parser.close()
    assert parser.open == []
    assert len(set(parser.ids)) == len(parser.ids)
    return parser


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = played_run(
        tmp_path_factory.mktemp("runs") / "first", {ALFWORLD: "explorer", WEBSHOP: "random"}, tasks=6, seeds=2
    )
    write_lines(folder / "metrics.jsonl", training_metrics(60))
    write_report(folder)
    return folder


def test_the_numbers_are_those_of_the_summary(run) -> None:
    cells = parsed(run / "report.html").cells
    for env_id in (ALFWORLD, WEBSHOP):
        chosen = [e for e in read_episodes(run) if e.env_id == env_id]
        numbers = summarize(chosen)
        low, high = numbers.success_interval
        wanted = [
            "12",
            f"{numbers.success_rate:.1%}",
            f"{100 * low:.1f}–{100 * high:.1f}",
            "",
            f"{numbers.mean_score:.3f}",
            "{:.3f}–{:.3f}".format(*numbers.score_interval),
            f"{numbers.mean_steps:.1f}",
        ]
        # Once in the summary of the run, once as the last row of the task types.
        starts = [i for i in range(len(cells)) if cells[i : i + len(wanted)] == wanted]
        assert len(starts) == 2
        assert cells[starts[1] - 1] == "all"


def test_success_by_turn_ends_at_the_rate(run) -> None:
    text = (run / "report.html").read_text()
    [first, _] = re.findall(r'aria-label="Share won within so many turns, with 95 % intervals\. ([^"]*)"', text)
    rate = summarize([e for e in read_episodes(run) if e.env_id == ALFWORLD]).success_rate
    assert first.endswith(f"to {rate:.1%} at {max(e.steps for e in read_episodes(run) if e.env_id == ALFWORLD)}.")
    rows = re.findall(r'<th scope="row">(\d+)</th><td class="n">([\d.]+)%</td></tr>', text)
    shares = [float(share) for turns, share in rows]
    assert rows[0] == ("0", "0.0")
    assert any(0 < share < 100 for share in shares)


def test_turns_are_counted(tmp_path) -> None:
    rows = [episode(0), episode(1, is_success=False, score=0.0, stop_reason="step_limit", steps=3)]
    cut = turn(action="", response="<think>", is_well_formed=False, is_action_valid=False, finish_reason="length")
    fine = turn(
        action="go to desk 1", response="<action>go to desk 1</action>", is_well_formed=True, finish_reason="eos"
    )
    played = [trajectory(rows[0], [fine, fine]), trajectory(rows[1], [fine, cut, cut])]
    text = write_report(write_run(tmp_path / "run", rows, played)).read_text()
    cells = parsed(tmp_path / "run" / "report.html").cells
    assert "First failing turn of the 1 of 2 episodes that have one" in text
    [said] = re.findall(r'aria-label="Failing turns, as a share of the episodes that came to them\. ([^"]*)"', text)
    assert said.split("; ") == [
        "malformed: from 0.0% at 1 to 100.0% at 3",
        "invalid: from 0.0% at 1 to 100.0% at 3",
        "cut: from 0.0% at 1 to 100.0% at 3.",
    ]

    def has_row(*wanted: str) -> bool:
        return any(tuple(cells[i : i + len(wanted)]) == wanted for i in range(len(cells)))

    assert has_row("2", "2", "50.0%", "50.0%", "50.0%")
    assert has_row("go to", "3", "60.0%", "0.0%", "2.0", "1.0")
    assert has_row("other", "2", "40.0%", "100.0%", "0.0", "2.0")
    kind = "pick_and_place_simple"
    assert has_row(kind, "step_limit 1", "1", "2", "3", "3", "3", "100%", "2", "–", "0.000", "0%")


def test_equal_files_give_an_equal_report(run, tmp_path) -> None:
    copy = tmp_path / "elsewhere"
    copy.mkdir()
    for file in run.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    before = (run / "report.html").read_bytes()
    assert write_report(copy).read_bytes() == before
    assert write_report(copy).read_bytes() == before


def test_it_loads_and_runs_nothing(run) -> None:
    text = (run / "report.html").read_text()
    tags = parsed(run / "report.html").tags
    assert not tags & {"script", "img", "link", "iframe", "object", "embed", "form", "audio", "video", "base"}
    assert not re.search(r"url\(|@import|\ssrc=|\son\w+=|\sstyle=", text)
    # Only links to the viewer lead out.
    assert set(re.findall(r'href="([^/"]*//[^/"]*)', text)) == {"http://127.0.0.1:3030"}
    assert "http" not in re.sub(r'href="http://127\.0\.0\.1:3030/[^"]*"|xmlns="[^"]*"|http-equiv', "", text)


def test_links_lead_to_the_viewer(run) -> None:
    links = [html.unescape(a) for a in re.findall(r'href="([^"]+)"', (run / "report.html").read_text())]
    assert len(links) == 24
    with visiting(run) as client:
        assert {client.get(link).status_code for link in links} == {200}


def test_reports_comparisons_and_the_viewer_need_no_extra() -> None:
    names = "analysis.compare", "leaderboard.verifying", "leaderboard.tables", "reports.report", "reports.viewer"
    code = "import sys, " + ", ".join(f"sdar_benchmarks.{name}" for name in names) + "; print(*sys.modules)"
    out = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    loaded = {name.partition(".")[0] for name in out.split()}
    assert "jinja2" in loaded
    extras = {"bs4", "httpx2", "matplotlib", "pyarrow", "requests", "scipy", "starlette", "torch", "uvicorn"}
    assert loaded & extras == set()


def test_hostile_text(tmp_path) -> None:
    row = episode(0, task_id=HOSTILE, env_id=HOSTILE, task_type=HOSTILE, split=HOSTILE, is_success=False)
    failed = episode(
        1, status="error", is_success=False, stop_reason="agent_error", error={"type": HOSTILE, "message": HOSTILE}
    )
    settings = config(command=HOSTILE, agent={"name": HOSTILE, "settings": {"model": HOSTILE}})
    bad = turn(HOSTILE, HOSTILE, response=HOSTILE, tokens=[{"text": HOSTILE, "gap": 1.0, "gate": 0.5}])
    metrics = [{"step": 1, HOSTILE: 1.0}, {"step": 2, HOSTILE: 2.0}]
    folder = write_run(tmp_path / "run", [row, failed], [trajectory(row, [bad])], settings, metrics)
    text = write_report(folder).read_text(encoding="utf-8")
    assert not parsed(folder / "report.html").tags & {"img", "script"}
    assert "\u202e" not in text
    assert "\x1b" not in text
    write_run(tmp_path / "other", [row, failed], [trajectory(row, [bad])], settings, metrics)
    write_comparison([folder, tmp_path / "other"], tmp_path / "both.html")
    assert not parsed(tmp_path / "both.html").tags & {"img", "script"}


def test_errors_count_as_not_won_and_are_named(tmp_path) -> None:
    failed = episode(
        1, status="error", is_success=False, stop_reason="endpoint_error", error={"type": "Timeout", "message": "slow"}
    )
    folder = write_run(tmp_path, [episode(0), failed], settings=config(finished=None))
    text = write_report(folder).read_text()
    assert "Of 2 episodes, 1 ended in an error. Errors count as not won." in text
    assert "This run is not finished" in text
    assert '<th scope="row">endpoint_error</th><td>Timeout</td><td class="n">1</td><td class="n">50.0%</td>' in text
    assert "50.0%" in text


def test_only_the_last_attempt_counts(tmp_path) -> None:
    first = episode(0, status="error", is_success=False, stop_reason="env_error", error={"type": "E", "message": ""})
    text = write_report(write_run(tmp_path, [first, episode(0, attempt=2)])).read_text()
    assert "1 episode, 1 task, 1 seed, 1 attempt repeated after an error" in text
    # The cause is told; the tables do not count it.
    assert "1 attempt at episodes ended in env_error (0 in the result): E:" in text
    assert text.count("env_error") == 1


def test_long_observations_are_cut_and_many_episodes_are_counted(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("sdar_benchmarks.reports.report._LISTED", 3)
    rows = [episode(i) for i in range(5)]
    folder = write_run(tmp_path, rows, [trajectory(rows[0], [turn("z" * 5000)])])
    text = write_report(folder).read_text()
    assert "3,000 more characters are in the file." in text
    assert "3 of 5 episodes" in text


def test_a_run_without_episodes(tmp_path) -> None:
    assert "no episodes" in write_report(write_run(tmp_path, [])).read_text()


def test_training_curves(run, tmp_path) -> None:
    text = (run / "report.html").read_text()
    for name in training_metrics(10)[-1].keys() - {"step"}:
        assert f"<figcaption>{name}</figcaption>" in text
    alone = tmp_path / "training"
    alone.mkdir()
    write_lines(alone / "metrics.jsonl", training_metrics(20))
    assert "<figcaption>gap/mean</figcaption>" in write_report(alone).read_text()
    write_lines(alone / "metrics.jsonl", [{"step": 1, "eval/turns": 2.0, "a/b": 1.0, "rollout/success": 0.5}])
    order = re.findall(r"<h3>(\w+)</h3>|<figcaption>(\S+)</figcaption>", write_report(alone).read_text())
    assert ["".join(pair) for pair in order] == ["success", "rollout/success", "a", "a/b", "eval", "eval/turns"]


def test_several_runs_side_by_side(run, tmp_path) -> None:
    other = played_run(tmp_path / "second", {ALFWORLD: "random"}, tasks=6, seeds=2)
    write_lines(other / "metrics.jsonl", [{"step": 1, "train/success": 0.5}, {"step": 9, "only/here": 3.0}])
    write_comparison([run, other], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    parsed(tmp_path / "both.html")
    assert "2 runs side by side" in text
    assert text.count("</svg> first <span") >= 4
    assert "did not play the same tasks" not in text
    # Both in one pair of axes, each in its colour; a run without the metric keeps its place in the legend.
    figure = re.search(r"<figcaption>only/here</figcaption>.*?</figure>", text, flags=re.DOTALL)[0]
    assert '</svg> first <span class="quiet">none</span>' in figure
    assert 'class="line c1 d1"' in figure


def test_a_run_keeps_its_colour_where_others_are_missing(tmp_path) -> None:
    first = write_run(tmp_path / "first", [episode(0, env_id=WEBSHOP)])
    second = write_run(tmp_path / "second", [episode(0)], metrics=training_metrics(5))
    write_comparison([first, second], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    figures = re.findall(r"<figure>.*?</figure>", text, flags=re.DOTALL)
    assert len(figures) == 2 * 3 + len(training_metrics(5)[-1]) - 1
    for figure in figures:
        legend = re.findall(r'class="line (c\d) d\d" points="0,4 24,4"/></svg> (\w+) ', figure)
        assert legend == [("c0", "first"), ("c1", "second")]
    heads = re.findall(r'<th scope="col">(\w+)</th><th scope="col" class="n">episodes', text)
    assert heads == ["run", "run"]


def test_the_viewer_is_where_the_links_lead() -> None:
    args = make_parser().parse_args(["view", "run"])
    assert f"http://{args.host}:{args.port}" == VIEWER


def test_other_tasks_are_pointed_out(tmp_path) -> None:
    first = write_run(tmp_path / "a" / "run", [episode(0)])
    second = write_run(tmp_path / "b" / "run", [episode(1)])
    write_comparison([first, second], tmp_path / "both.html")
    text = (tmp_path / "both.html").read_text()
    assert "did not play the same tasks" in text
    assert '<th scope="row">a/run</th>' in text


def test_refusals(tmp_path) -> None:
    with pytest.raises(MissingData, match=r"has no config\.json"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "run", [episode(0)])
    with pytest.raises(InvalidOption, match="2 runs, 1 of them different"):
        write_comparison([folder, folder], tmp_path / "both.html")
    write_run(tmp_path / "old", [], settings=config(format=0))
    with pytest.raises(InvalidOption, match="format 0"):
        write_report(tmp_path / "old")
    (folder / "episodes.jsonl").write_bytes(b"{\n")
    told: list[str] = []
    write_report(folder, told.append)
    assert len(told) == 1
    assert told[0].startswith("1 line of episodes.jsonl cannot be read and is left out: number 1 (the line is no JSON")
    assert "1 line of episodes.jsonl cannot be read" in (folder / "report.html").read_text(encoding="utf-8")
