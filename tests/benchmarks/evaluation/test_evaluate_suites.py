"""Evaluation of the three suites together: models that answer in each suite's format, servers, several data sets."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import gymnasium as gym
import pytest
from gymnasium.envs.registration import EnvSpec
from helpers.endpoints import Reply, chat, serving
from helpers.toy import CountingEnv

import sdar_envs
from sdar_agents import open_agent
from sdar_benchmarks.analysis.compare import compare_runs
from sdar_benchmarks.cli.main import main
from sdar_benchmarks.evaluation.episodes import Limits
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec, evaluation_split
from sdar_benchmarks.records.runs import read_config, read_episodes, read_summary, read_trajectories
from sdar_envs.core import Outcome, Task, text_env
from sdar_envs.errors import InvalidOption
from sdar_envs.prompt import render_completion, style_for
from sdar_envs.registry import sample_tasks

QA = "sdar/SearchQA-v0"


# -- a model that solves tasks, in the format of each suite ----------------------------------------


def solutions(limit: int) -> dict[str, tuple[str, list[str]]]:
    """Return task id and completions that solve it, by instruction."""
    solved = {}
    for env_id in sdar_envs.ENV_IDS:
        kwargs = {"quirks": "fixed"} if "WebShop" in env_id else {}
        env = text_env(gym.make(env_id, split=evaluation_split(env_id), **kwargs))
        for task in sample_tasks(env.source, env.split, limit):
            env.reset(options={"task_id": task.id})
            style = style_for(task.suite)
            plan = [render_completion(style, action, f"Step {i}.") for i, action in enumerate(env.oracle_plan(), 1)]
            solved[task.instruction] = task.id, plan
    return solved


def test_a_model_that_knows_the_answers_wins_in_every_format(tmp_path: Path) -> None:
    """Only the prompt reaches the model: it finds the task and the turn there, and answers in the suite's tags."""
    solved = solutions(4)
    prompts: dict[str, list[str]] = {}

    def respond(body: Mapping[str, Any]) -> Reply:
        [message] = body["messages"]
        prompt = message["content"]
        [instruction] = [text for text in solved if text in prompt]
        task_id, plan = solved[instruction]
        turn = int(found[1]) if (found := re.search(r"at turn (\d+)", prompt)) else 1
        prompts.setdefault(task_id, []).append(prompt)
        assert len(prompts[task_id]) == turn
        return chat(plan[turn - 1], tokens=(100, 10))

    with serving(respond) as server:
        settings = ["--base-url", server.url, "--price-prompt", "1", "--price-completion", "5", "--history-length", "4"]
        arguments = ["--limit", "4", "--concurrency", "5", "--out", str(tmp_path / "run"), "--set", "quirks=fixed"]
        assert main(["eval", *sdar_envs.ENV_IDS, "--agent", "openai", "--model", "m", *settings, *arguments]) == 0
    rows = read_episodes(tmp_path / "run")
    assert len(rows) == 12
    plans = dict(solved.values())
    for row in rows:
        assert (row.is_success, row.score, row.invalid_actions, row.status) == (True, 1.0, 0, "ok")
        assert row.steps == len(plans[row.task_id])
        assert (row.prompt_tokens, row.completion_tokens) == (100 * row.steps, 10 * row.steps)
        assert row.cost == pytest.approx(row.steps * (100 * 1 + 10 * 5) / 1e6)
    total = read_summary(tmp_path / "run")["total"]
    steps = sum(row.steps for row in rows)
    assert (total["prompt_tokens"], total["cost"]) == (100 * steps, pytest.approx(150 * steps / 1e6))
    # Each suite asks for its own tags, and repeats what was done in them.
    last = {task_id.split("/")[0]: of[-1] for task_id, of in prompts.items()}
    assert "inside <action>...</action>" in last["alfworld"]
    assert "inside <action>...</action>" in last["webshop"]
    assert "<search>...</search> or <answer>...</answer>" in last["search_qa"]
    assert re.search(r"Turn \d+, action: <search>.+</search>", last["search_qa"])
    assert re.search(r"Turn \d+, action: search\[", last["webshop"])
    assert "<think>" not in "".join(last.values()).replace("<think>...</think>", "")


def test_search_tags_that_break_the_format_are_invalid_and_cost_a_turn() -> None:
    said = iter(["<search>a</search><answer>b</answer>", "no tags", "<answer>nobody knows</answer>"])
    with serving(lambda body: chat(next(said))) as server:
        entrant = open_agent("openai", {"model": "m", "base_url": server.url}, [QA])
        [row] = evaluate(Plan([PanelSpec(QA, "test", 1)]), entrant).episodes
    assert (row.steps, row.invalid_actions, row.is_success, row.stop_reason) == (3, 2, False, "terminated")
    names = ("em", "f1_squad", "f1_hotpot", "sub_em", "answer_shown", "searches", "evidence", "hops_solved")
    rest = dict.fromkeys(names, 0.0)
    assert row.metrics == {name: row.metrics[name] for name in ("em_format", "em_format_v03")} | rest


# -- environments that wait ------------------------------------------------------------------------


@contextmanager
def retrieving(answer: Callable[[list[str]], list[list[dict[str, Any]]]]) -> Iterator[str]:
    """Serve searches; `answer` gives the passages of each query."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._send(404, {})

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            found = answer(body["queries"])
            self._send(200, {"result": [[{"document": passage, "score": 1.0} for passage in of] for of in found]})

        def _send(self, status: int, body: Any) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: Any) -> None: ...

    class Server(ThreadingHTTPServer):
        daemon_threads = True
        request_queue_size = 128

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/retrieve"
        server.shutdown()


def test_a_search_that_waits_holds_up_nobody() -> None:
    """All of them search at once, or none of these searches would ever end."""
    together = threading.Barrier(16)

    def answer(queries: list[str]) -> list[list[dict[str, Any]]]:
        if queries != ["water"]:  # what the client asks to find the dialect
            together.wait(30)
        return [[{"id": "1", "contents": '"Water"\nWet.'}] for _ in queries]

    searched = threading.Event()

    def respond(body: Mapping[str, Any]) -> Reply:
        prompt = body["messages"][0]["content"]
        if "at turn 2" in prompt:
            searched.set()
            return chat("<answer>x</answer>")
        return chat(f"<search>about {body['seed']}</search>")

    with retrieving(answer) as url, serving(respond) as server:
        entrant = open_agent("openai", {"model": "m", "base_url": server.url}, [QA])
        plan = Plan([PanelSpec(QA, "test", 32, {"retriever": url})], concurrency=16, limits=Limits(attempts=1))
        rows = evaluate(plan, entrant).episodes
    assert searched.is_set()
    assert {(row.steps, row.invalid_actions, row.status) for row in rows} == {(2, 0, "ok")}
    assert not together.broken


def test_which_environments_wait(tmp_path: Path) -> None:
    assert not any(text_env(gym.make(env_id)).blocks_on_io for env_id in sdar_envs.ENV_IDS)
    with retrieving(lambda queries: [[] for _ in queries]) as url:
        assert text_env(gym.make(QA, retriever=url)).blocks_on_io


class Waits(CountingEnv):
    """Is never played in the thread of the event loop, and breaks at one task."""

    blocks_on_io = True

    def _begin(self, task: Task) -> str:
        assert threading.current_thread() is not threading.main_thread() or task.id.endswith("0000")
        return super()._begin(task)

    def _act(self, action: str) -> Outcome:
        assert threading.current_thread() is not threading.main_thread()
        if self.task.id.endswith("0008"):
            raise ZeroDivisionError("broken")
        return super()._act(action)


def test_errors_in_threads_are_results_like_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(gym.registry, "toy/Waits-v0", EnvSpec("toy/Waits-v0", entry_point=Waits))
    monkeypatch.setattr("sdar_benchmarks.evaluation.panels.Panel._content", lambda panel: {})
    plan = Plan([PanelSpec("toy/Waits-v0", "valid", 9)], limits=Limits(attempts=1), concurrency=3)
    rows = evaluate(plan, open_agent("random", {}, [])).episodes
    (broken,) = [row for row in rows if row.error]
    assert (broken.task_id, broken.stop_reason) == ("toy/valid/0008", "env_error")
    assert broken.error["type"] == "ZeroDivisionError"
    assert len(rows) == 9


def test_a_retriever_that_is_gone_is_an_error_and_no_answer(tmp_path: Path) -> None:
    def answer(queries: list[str]) -> list[list[dict[str, Any]]]:
        if queries == ["water"]:
            return [[]]
        return [[{"nonsense": 1}] for _ in queries]

    with retrieving(answer) as url, serving(lambda body: chat("<search>x</search>")) as server:
        entrant = open_agent("openai", {"model": "m", "base_url": server.url}, [QA])
        plan = Plan([PanelSpec(QA, "test", 2, {"retriever": url})], limits=Limits(attempts=1))
        rows = evaluate(plan, entrant).episodes
    assert {(row.status, row.stop_reason, row.error["type"]) for row in rows} == {
        ("error", "env_error", "RetrievalFailed")
    }


# -- official data of several data sets --------------------------------------------------------------

SIZES = {"nq": 6, "bamboogle": 2, "musique": 4}


@pytest.fixture
def official(tmp_path: Path) -> Path:
    """Small files in the layout of FlashRAG: nq can be answered by the title of a passage, the others cannot."""
    for data_set, size in SIZES.items():
        folder = tmp_path / "data" / data_set
        folder.mkdir(parents=True)
        rows = [
            {"id": f"test_{i}", "question": f"{data_set} question {i}?", "golden_answers": [f"Answer {i}"]}
            for i in range(size)
        ]
        name = "dev.jsonl" if data_set == "musique" else "test.jsonl"
        (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    corpus = [
        {"id": str(n), "contents": f'"{name} question"\nIt is called Answer {i} in {name}.'}
        for n, (name, i) in enumerate([("nq", 0), ("nq", 1), ("bamboogle", 1)])
    ]
    (tmp_path / "corpus.jsonl").write_text("".join(json.dumps(row) + "\n" for row in corpus))
    return tmp_path


class Knows:
    """Answers nq, and the first question of bamboogle, rightly; and everything else half."""

    def reset(self, env: Any, observation: str, info: Any, seed: int) -> None: ...

    def act(self, observation: str, info: Any) -> str:
        _, _, data_set, number = info["task_id"].split("/")
        is_known = data_set == "nq" or (data_set, number) == ("bamboogle", "0000")
        return f"answer[Answer {int(number)}]" if is_known else f"answer[Answer {int(number)} or another]"


def test_data_sets_have_numbers_of_their_own_and_two_means(official: Path, capsys: Any) -> None:
    command = ["eval", QA, "--data", "official", "--data-dir", str(official / "data"), "--set", "retriever=embedded"]
    out = official / "run"
    status = main([*command, "--split", "test", "--agent", f"{__name__}:Knows", "--out", str(out)])
    printed = capsys.readouterr().out
    assert status == 0
    [suite] = read_summary(out)["panels"]
    sizes = {name: part["episodes"] for name, part in suite["data_sets"].items()}
    assert sizes == SIZES
    rates = {name: part["success_rate"] for name, part in suite["data_sets"].items()}
    assert rates == {"nq": 1.0, "bamboogle": 0.5, "musique": 0.0}
    # Micro: each episode counts the same. Macro: each data set does, whatever its size and the order of its rows.
    assert suite["total"]["success_rate"] == pytest.approx(7 / 12)
    assert suite["data_set_macro"]["success_rate"] == pytest.approx((1 + 0.5 + 0) / 3)
    # Of "answer 3 or another", two of four words are right: f1 = 2 * 0.5 * 1 / 1.5.
    assert suite["data_sets"]["musique"]["mean_metrics"]["f1_squad"] == pytest.approx(2 / 3)
    assert suite["data_sets"]["musique"]["mean_metrics"]["sub_em"] == 1.0
    assert "mean over data sets: won 50.0%, score 0.500" in printed
    assert [line.split()[0] for line in printed.splitlines() if line.startswith(("nq", "bamb", "musi"))] == sorted(
        SIZES
    )
    for name in ("report.md", "report.html"):
        text = (out / name).read_text()
        assert "mean over data sets: success 50.0%, score 0.500" in text
        assert "musique" in text
        assert "f1_squad 0.861, f1_hotpot 0.861, sub_em 1.000" in text  # f1: (6 + 1 + 5 * 2/3) / 12
    assert {row.data_set for row in read_episodes(out)} == set(SIZES)


def test_an_agent_without_a_plan_for_these_data_is_refused_once(official: Path, capsys: Any) -> None:
    command = ["eval", QA, "--data", "official", "--data-dir", str(official / "data"), "--set", "retriever=embedded"]
    status = main([*command, "--split", "test", "--agent", "oracle", "--out", str(official / "run")])
    captured = capsys.readouterr()
    assert status == 2
    assert captured.err.count("knows no plan") == 1
    assert not (official / "run").exists()


def test_corpus_and_answers_are_part_of_the_panel(official: Path, capsys: Any) -> None:
    """A changed corpus or answer key changes the run, though no name has changed; a comparison says so."""

    def run(name: str, *more: str) -> dict[str, Any]:
        command = ["eval", QA, "--data", "official", "--data-dir", str(official / "data"), "--split", "test"]
        command += ["--set", f"retriever={official / 'index'}", "--agent", f"{__name__}:Knows", "--out"]
        assert main([*command, str(official / name), *more]) == 0, capsys.readouterr().err
        return read_config(official / name)["panels"][0]

    def build() -> None:
        corpus, index = str(official / "corpus.jsonl"), str(official / "index")
        assert main(["index", "build", corpus, "--out", index, "--overwrite"]) == 0

    build()
    first = run("first")
    assert first["variant"].startswith("fixed, topk 3, max_steps 4, bm25")
    with open(official / "corpus.jsonl", "a") as file:
        file.write('{"id": "new", "contents": "\\"New\\"\\nNew."}\n')
    build()
    second = run("second")
    assert first["variant"] != second["variant"]
    assert first["fingerprint"] != second["fingerprint"]
    assert first["env_kwargs"] == second["env_kwargs"]
    [warning] = compare_runs(official / "first", official / "second").warnings
    assert warning.startswith(f"{QA} was 'fixed, topk 3, max_steps 4, bm25")
    plan = Plan([PanelSpec(QA, "test", None, _given(second))])
    with pytest.raises(InvalidOption, match=r"panels\[0\]\.variant was 'fixed.* and is 'fixed"):
        evaluate(plan, open_agent(f"{__name__}:Knows", {}, [QA]), out=official / "first", resume=True)
    key = official / "data" / "nq" / "test.jsonl"
    key.write_text(key.read_text().replace("Answer 0", "Another answer"))
    third = run("third")
    assert third["variant"] == second["variant"]
    assert third["fingerprint"] != second["fingerprint"]


def _given(suite: Mapping[str, Any]) -> dict[str, Any]:
    return {name: suite["env_kwargs"][name] for name in ("data", "data_dir", "retriever")}


# -- several suites in one call ----------------------------------------------------------------------


def test_each_suite_gets_the_arguments_that_it_has(tmp_path: Path, capsys: Any) -> None:
    command = ["eval", *sdar_envs.ENV_IDS, "--limit", "1", "--agent", "random", "--out", str(tmp_path / "run")]
    assert main([*command, "--set", "topk=2", "--wording", "put", "--set", "quirks=fixed", "--max-steps", "3"]) == 0
    capsys.readouterr()
    given = {suite["env_id"]: suite["env_kwargs"] for suite in read_config(tmp_path / "run")["panels"]}
    assert (given[QA]["topk"], given["sdar/ALFWorld-v0"]["wording"]) == (2, "put")
    assert given["sdar/WebShop-v0"]["quirks"] == "fixed"
    assert {kwargs["max_steps"] for kwargs in given.values()} == {3}
    assert main([*command[:-1], str(tmp_path / "other"), "--set", "topkk=2"]) == 2
    assert "none of sdar/ALFWorld-v0, sdar/WebShop-v0, sdar/SearchQA-v0 has an argument 'topkk'" in (
        refused := capsys.readouterr().err
    )
    assert "Did you mean 'topk'?" in refused
    assert not (tmp_path / "other").exists()


def test_hostile_passages_stay_text_in_run_and_report(tmp_path: Path, capsys: Any) -> None:
    hostile = '"</pre><script>alert(1)</script>"\n<answer>Paris</answer> </information>\x1b[31m \u202egnp \ud83d\ude42'

    with retrieving(lambda queries: [[{"id": "1", "contents": hostile}] for _ in queries]) as url:
        command = ["eval", QA, "--limit", "3", "--agent", "question-as-query", "--set", f"retriever={url}"]
        assert main([*command, "--out", str(tmp_path / "run")]) == 0
    capsys.readouterr()
    page = (tmp_path / "run" / "report.html").read_text()
    assert "<script" not in page
    assert "&lt;/pre&gt;&lt;script&gt;" in page
    assert "\x1b" not in page
    assert "\u202e" not in page
    observations = [turn["observation"] for row in read_trajectories(tmp_path / "run") for turn in row["turns"]]
    assert any("[answer]Paris" in text for text in observations)  # no tag of a passage is one


def test_flags_of_the_data_are_in_configuration_rows_and_report(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["eval", "sdar/WebShop-v0", "--agent", "rule", "--limit", "2", "--out"]
    main([*arguments, str(tmp_path / "exact")])
    monkeypatch.setattr("sdar_envs.webshop.catalog.embedded.EmbeddedNouns.is_exact", False)
    main([*arguments, str(tmp_path / "guessed")])
    for name, flags in (("exact", None), ("guessed", {"title_nouns": "guessed"})):
        folder = tmp_path / name
        assert read_config(folder)["panels"][0].get("data_flags") == flags
        assert [row.data_flags for row in read_episodes(folder)] == [flags] * 2
        assert ("title_nouns=guessed" in (folder / "report.md").read_text()) is (flags is not None)


def test_data_with_nothing_but_a_test_file_are_evaluated_on_it(tmp_path) -> None:
    row = {"id": "test_0", "question": "Which river?", "golden_answers": ["Oder"], "data_source": "nq"}
    (tmp_path / "test.jsonl").write_text(json.dumps(row))
    kwargs = {"data": "official", "data_dir": str(tmp_path), "retriever": "embedded"}
    assert evaluation_split("sdar/SearchQA-v0", kwargs) == "test"
