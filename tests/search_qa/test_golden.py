"""Equal to what the original environment did on an invented corpus, its server's faults included."""

from __future__ import annotations

import json
import re

import pytest
from search_qa.invented import DATA, TableRetriever, fault_server, rows

from sdar_envs.search_qa.episode import Episode, Finding
from sdar_envs.search_qa.questions import Question
from sdar_envs.search_qa.reference import ReferenceTool, project, tagged
from sdar_envs.search_qa.scoring import exact_match, last_answer, normalize, sub_exact_match

HEADER, *RECORDS = rows("golden_sdar_env.jsonl.gz")
EPISODES = [record for record in RECORDS if record["type"] == "episode"]
NORMAL = [episode for episode in EPISODES if episode["server"] == "normal"]
FAULTY = [episode for episode in EPISODES if episode["server"] != "normal"]


def question_of(env_kwargs):
    """Return the question as the reference's environment takes it: it looks at golden answers only to score one."""
    truth = env_kwargs["ground_truth"]
    target = truth.get("target", ()) if isinstance(truth, dict) else ()
    answers = (target,) if isinstance(target, str) else tuple(map(str, target))
    return Question("q", env_kwargs["question"], answers, env_kwargs.get("data_source", "unknown"), "unclassified")


def differences(record, find, requests):
    """Play an episode and yield each value that differs from the record.

    Args:
        record: the episode.
        find: gives the finding for a query.
        requests: the bodies that the search engine has got so far; emptied for each step.
    """
    episode = Episode(question_of(record["env_kwargs"]), "sdar", record["max_steps"])
    for number, step in enumerate(record["steps"]):
        requests.clear()
        parsed = project(step["model_output"])
        action, is_valid = tagged(parsed.action), int(parsed.is_valid)
        query = episode.query(parsed.action)
        finding = None if query is None else find(query, record["topk"])
        reply = episode.act(parsed.action, finding)
        em = episode.scores()["em"]
        played = {
            "projected_action": action,
            "is_action_valid": is_valid,
            "observation": reply.observation,
            "reward": em,
            "done": episode.state.is_over,
            "info": {
                "won": em >= 1.0,
                "tool_calling": not episode.state.is_over,
                "data_source": episode.question.data_set,
            },
        }
        for key, value in played.items():
            if value != step[key]:
                yield f"episode {record['episode']}, step {number}, {key}: {value!r}, wanted {step[key]!r}"
        yield from _differing_requests(record, number, step["requests"], requests)


def _differing_requests(record, number, wanted, came):
    if isinstance(wanted, dict):
        wanted = (
            [body for _ in range(wanted["count"] // len(wanted["first"])) for body in wanted["first"]]
            if wanted["first"]
            else []
        )
    if wanted is not None and came != wanted:
        yield f"episode {record['episode']}, step {number}, requests: {came!r}, wanted {wanted!r}"


def test_every_episode_with_a_working_server():
    retriever = TableRetriever()
    requests = []

    def find(query, topk):
        requests.append({"query": query, "topk": topk, "return_scores": True})
        (hits,) = retriever.search([query], topk)
        return Finding(hits)

    played = [record for record in NORMAL if not any("error" in step for step in record["steps"])]
    assert [difference for record in played for difference in differences(record, find, requests)] == []
    assert (len(NORMAL), len(NORMAL) - len(played)) == (241, 4)


def test_every_episode_with_a_faulty_server():
    found = []
    with fault_server(HEADER["server_responses"]) as (address, seen):
        for record in FAULTY:
            name = record["server"].removeprefix("fault:")
            url = {
                "connection_refused": "http://127.0.0.1:9/retrieve",
                "queries_dialect_server": f"{address}/queries_only",
            }.get(name, f"{address}/f/{name}")
            tool = ReferenceTool(url, record["topk"], pause=0.0)
            port = re.compile(r"(?<=127\.0\.0\.1:)[0-9]+|(?<=port=)[0-9]+")

            def find(query, topk, tool=tool, port=port):
                said, _ = tool.say(query)
                said = re.sub(r"(?<=Request ID: )[0-9a-f-]{36}", "UUID", said)
                return Finding(said=port.sub("PORT", said))

            found += differences(record, find, seen)
    assert not found, "\n".join(found)
    assert len(FAULTY) == 26


def test_projections():
    cases = json.loads((DATA / "golden_projection.json").read_text(encoding="utf-8"))
    for case in cases:
        parsed = project(case["model_output"])
        assert (tagged(parsed.action), int(parsed.is_valid)) == (case["action"], case["valid"]), case
    assert len(cases) == 86


def test_exact_match():
    golden = json.loads((DATA / "golden_em.json").read_text(encoding="utf-8"))
    for case in golden["em"]:
        answers = case["golden_answers"]
        answers = [answers] if isinstance(answers, str) else answers
        scored = (
            normalize(case["prediction"]),
            [normalize(answer) for answer in answers],
            exact_match(case["prediction"], answers),
            sub_exact_match(case["prediction"], answers),
        )
        wanted = (case["normalized_prediction"], case["normalized_golden"], case["em"], case["sub_em"])
        assert scored == wanted, case
    for case in golden["extract"]:
        assert last_answer(case["text"]) == case["extracted"], case
    assert len(golden["em"]) == 80


@pytest.mark.parametrize("record", [record for record in RECORDS if record["type"] == "batch"])
def test_a_batch(record):
    retriever = TableRetriever()
    # What the reference's manager pads a short batch with.
    padding = {"ground_truth": {"target": ""}, "question": "", "data_source": "unknown"}
    kwargs = record["env_kwargs"] + [padding] * (record["num_envs"] - len(record["env_kwargs"]))
    episodes = [Episode(question_of(each), "sdar", 4) for each in kwargs]
    for step in record["steps"]:
        for i, text in enumerate(step["model_outputs"]):
            parsed = project(text)
            query = episodes[i].query(parsed.action)
            finding = None if query is None else Finding(retriever.search([query], 3)[0])
            reply = episodes[i].act(parsed.action, finding)
            em = episodes[i].scores()["em"]
            assert reply.observation == step["observations"][i]
            assert (em, episodes[i].state.is_over) == (step["rewards"][i], step["dones"][i])
            assert (int(parsed.is_valid), em >= 1.0) == (step["is_action_valid"][i], step["won"][i])
            assert step["tool_calling"][i] == (not episodes[i].state.is_over)
