"""What `sdar eval` says of data sets of very different sizes, beside what the reference's evaluation would say."""

from __future__ import annotations

import json

import numpy as np
import pytest
from helpers.endpoints import chat, serving

from sdar_agents import AgentPool, open_agent
from sdar_agents.players.agent import AsyncAdapter
from sdar_benchmarks.analysis.statistics import success_interval
from sdar_benchmarks.evaluation.evaluate import Plan, evaluate
from sdar_benchmarks.evaluation.panels import PanelSpec
from sdar_envs.prompt import Turn, parse_completion, render_messages
from sdar_envs.search_qa.reference import STYLE

SEARCH_QA = "sdar/SearchQA-v0"
BATCH = 512  # the reference's data.val_batch_size


def write(folder, sizes):
    """Write questions whose answer is right, so many for each data set."""
    for name, size in sizes.items():
        (folder / name).mkdir(parents=True)
        rows = [{"id": str(i), "question": f"{name} {i}?", "golden_answers": ["right"]} for i in range(size)]
        (folder / name / "test.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"data": "official", "data_dir": str(folder), "retriever": "embedded"}


class Chosen:
    """Answers right, at once, where it should, and else looks about until its turns have run out."""

    def __init__(self, knows):
        self._knows = knows

    def reset(self, env, observation, info, seed):
        self._command = "answer[right]" if self._knows(info["instruction"]) else "nonsense"

    def act(self, observation, info):
        return self._command


def evaluated(env_kwargs, knows):
    agents = AgentPool("chosen", lambda: AsyncAdapter(Chosen(knows), in_threads=False))
    return evaluate(Plan([PanelSpec(SEARCH_QA, "test", env_kwargs=env_kwargs)]), agents)


def test_small_batches_do_not_count_more(tmp_path):
    # As in the reference's evaluation: of 125 questions of Bamboogle, 124 are in one batch and the last in another.
    right = {f"bamboogle {i}?" for i in (*range(35), 124)} | {f"nq {i}?" for i in range(97)}
    evaluation = evaluated(write(tmp_path, {"bamboogle": 125, "nq": BATCH - 124}), right.__contains__)
    episodes = evaluation.episodes
    (suite,) = evaluation.summary.panels
    bamboogle, nq = suite.data_sets["bamboogle"], suite.data_sets["nq"]
    assert (bamboogle.episodes, bamboogle.tasks, nq.episodes) == (125, 125, 388)
    assert (bamboogle.success_rate, nq.success_rate) == (36 / 125, 97 / 388)
    assert bamboogle.success_interval == success_interval([i < 36 for i in range(125)], range(125))
    assert bamboogle.success_interval == pytest.approx((0.216, 0.373), abs=0.001)
    assert suite.total.success_rate == pytest.approx((36 + 97) / (125 + 388))  # micro
    assert suite.data_set_macro.success_rate == pytest.approx((36 / 125 + 97 / 388) / 2)  # macro
    # The reference takes the mean of the means of batches: 64.1 % in place of 28.8 %.
    ours = [episode for episode in episodes if episode.data_set == "bamboogle"]
    of_batches = [np.mean([e.is_success for e in batch]) for batch in (ours[:124], ours[124:])]
    assert np.mean(of_batches) == pytest.approx(0.641, abs=0.001)
    # Its other number is a mean over turns, in which whoever fails late counts four times.
    over_turns = np.average([e.is_success for e in ours], weights=[e.steps for e in ours])
    assert over_turns == pytest.approx(36 / (36 + 4 * 89))


def test_a_model_searches_reads_and_answers(tmp_path):
    completions = [
        "<think>Where is it?</think>\n<search>capital of Peru</search>",
        "I have no idea.",
        "<think>There.</think><ANSWER> right! </ANSWER>",
    ]

    def respond(body):
        return chat(completions[min(len(server.requests) - 1, 2)])

    with serving(respond) as server:
        agent = open_agent("openai", {"model": "m", "base_url": server.url, "history_length": 2}, [SEARCH_QA])
        plan = Plan([PanelSpec(SEARCH_QA, "test", env_kwargs=write(tmp_path / "data", {"nq": 1}))])
        evaluation = evaluate(plan, agent, out=tmp_path / "run")
    (episode,) = evaluation.episodes
    assert (episode.is_success, episode.steps, episode.invalid_actions) == (True, 3, 1)
    prompts = [body["messages"][-1]["content"] for _, body in server.requests]
    assert "Then give exactly one of <search>...</search> or <answer>...</answer>, once." in prompts[0]
    assert "Turn 1, action: <search>capital of Peru</search>" in prompts[1]
    assert "Lima" in prompts[1]
    assert "That is no command." in prompts[2]
    assert "Turn 1, action: <search>capital of Peru</search>" in prompts[2]
    assert "There." not in prompts[2]


def test_under_sdar_a_model_is_read_as_the_reference_does(tmp_path):
    both = "<answer>wrong</answer> <search>capital of Peru</search>"
    for compat, searches, malformed, invalid in (("sdar", 1, 1, 0), ("fixed", 0, 1, 1)):

        def respond(body):
            return chat(both if len(server.requests) == 1 else "<answer>right</answer>")

        with serving(respond) as server:
            agent = open_agent("openai", {"model": "m", "base_url": server.url}, [SEARCH_QA])
            arguments = {**write(tmp_path / compat, {"nq": 1}), "compat": compat}
            (episode,) = evaluate(Plan([PanelSpec(SEARCH_QA, "test", env_kwargs=arguments)]), agent).episodes
        assert (episode.is_success, episode.steps) == (True, 2)
        assert (episode.malformed_answers, episode.invalid_actions) == (malformed, invalid)
        prompt = server.requests[1][1]["messages"][-1]["content"]
        assert ("Lima" in prompt) == bool(searches)


def test_the_references_style_shows_what_ours_shows():
    history = [Turn("who?", "search[x]"), Turn("<information></information>", "")]
    (message,) = render_messages(STYLE, "who?", history, "a text", [])
    assert "Turn 1, action: <search>x</search>" in message["content"]
    assert parse_completion("<answer>a</answer><search>b</search>", STYLE).action == "search[b]"
