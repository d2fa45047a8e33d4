"""`compat="search-r1"` is equal to what Search-R1's own loop and rewards did, malformed completions included."""

from __future__ import annotations

import json
import re
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest
from helpers.invented import rows
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs import TextVectorEnv
from sdar_envs.errors import InvalidAction
from sdar_envs.prompt import parse_completion, render_completion
from sdar_envs.search_qa import search_r1
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.questions import Question, from_row, golden_answers
from sdar_envs.search_qa.retrieval.retriever import Hit, Passage, RetrievalFailed
from sdar_envs.search_qa.retrieval.search_r1_retriever import SearchR1Retriever
from sdar_envs.search_qa.scoring import em_with_format, exact_match, sub_exact_match
from sdar_envs.search_qa.session import Finding, QuestionSession

HEADER, *RECORDS = rows("golden_search_r1.jsonl.gz")
EPISODES = [record for record in RECORDS if record["type"] == "episode"]
RAISES = [record for record in RECORDS if record["type"] == "raises"]
QUESTIONS = {row["id"]: row for row in HEADER["questions"]}
PASSAGES = {name: Passage(name, contents) for name, contents in HEADER["passages"].items()}


class Recorded:
    """Gives what the recorded server gave."""

    def __init__(self, server):
        self.fingerprint = f"recorded {server}"
        self.results = {
            (turn["content"], record["topk"]): turn["results"]
            for record in EPISODES
            if record["server"] == server
            for turn in record["turns"]
            if turn["results"] is not None
        }
        self.asked = []

    def search(self, queries, k):
        self.asked += queries
        return [tuple(Hit(PASSAGES[name], None) for name in self.results[query, k]) for query in queries]


def test_every_completion_is_cut_and_parsed():
    turns = [turn for record in EPISODES for turn in record["turns"]]
    for turn in turns:
        parsed = parse_completion(turn["completion"], search_r1.STYLE)
        kept = search_r1.written(parsed.action)
        name, content = search_r1.block(kept) or (None, "")
        played = {"cut": kept, "action": name, "content": content, "valid": int(parsed.is_well_formed)}
        assert played == {key: turn[key] for key in played}, turn["completion"]
        assert search_r1.block(turn["completion"]) == search_r1.block(kept)
    assert len(turns) == HEADER["turns"] == 914


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("recorded")
    lines = [json.dumps({**row, "data_source": "all"}) + "\n" for row in QUESTIONS.values()]
    (path / "test.jsonl").write_text("".join(lines), encoding="utf-8")
    return str(path)


def differences(env, retriever, record):
    """Play an episode and yield each value that differs from the record."""
    task_id = f"search_qa/test/all/{list(QUESTIONS).index(record['question_id']):04d}"
    env.reset(options={"task_id": task_id})
    info, seen = {}, set()
    for number, turn in enumerate(record["turns"]):
        retriever.asked.clear()
        parsed = parse_completion(turn["completion"], env.prompt_style)
        observation, reward, terminated, truncated, info = env.step(parsed.action)
        wanted = [query for request in turn["requests"] for query in request["queries"]]
        played = {
            "observation": observation,
            "valid": int(info["is_action_valid"]),
            "done": int(terminated),
            "final": truncated or (terminated and turn["final"]),
            "results": info["passage_ids"] if wanted else None,
            "queries": retriever.asked or (wanted if seen.issuperset(wanted) else []),
        }
        seen.update(wanted)
        for key, value in played.items():
            if value != {**turn, "queries": wanted}[key]:
                yield f"{record['episode']}, turn {number}, {key}: {value!r}, wanted {turn.get(key, wanted)!r}"
    if record["limits"] is None:  # the trainer's cut of the transcript is not the environment's
        for name in ("em", "sub_em", "em_format", "em_format_v03"):
            if info["metrics"][name] != pytest.approx(record["rewards"][name]):
                yield f"{record['episode']}, {name}: {info['metrics'][name]}, wanted {record['rewards'][name]}"
        if reward != record["rewards"]["em"]:
            yield f"{record['episode']}, reward {reward}"
    if info["step"] != len(record["turns"]):
        yield f"{record['episode']}: {info['step']} turns"


def test_every_episode_is_played_by_the_environment_as_recorded(folder):
    found, retrievers = [], {server: Recorded(server) for server in ("table", "odd", "over", "few")}
    for record in EPISODES:
        retriever = retrievers[record["server"]]
        env = SearchQAEnv(
            data="official",
            data_dir=folder,
            split="test",
            compat="search-r1",
            retriever=Fresh(retriever),
            topk=record["topk"],
            max_steps=record["max_turns"] + 1,
        )
        found += differences(env, retriever, record)
    assert not found, "\n".join(found)
    assert len(EPISODES) == 300


class Fresh:
    """The retriever as an object of its own, so that no cache is shared."""

    def __init__(self, inner):
        self.inner = inner
        self.fingerprint = inner.fingerprint

    def search(self, queries, k):
        return self.inner.search(queries, k)


def transcript_of(record):
    return record.get("transcript") or "".join(turn["cut"] + turn["observation"] for turn in record["turns"])


def test_every_reward_of_every_episode_with_and_without_the_prompt():
    for record in EPISODES:
        row = QUESTIONS[record["question_id"]]
        question = from_row(row, "nq", 1)
        answers = question.answers
        transcript = transcript_of(record)
        prompt = HEADER["prompt"].replace("{question}", row["question"])
        for before, suffix in ((prompt, ""), (search_r1.PROMPT_TAGS, ""), ("", "_bare")):
            reading = search_r1.read(transcript, answers, prompt=before, is_text=question.answer_is_text)
            em = None if reading.answer is None else exact_match(reading.answer, answers)
            scores = {
                "em": em or 0,
                "sub_em": 0 if reading.answer is None else sub_exact_match(reading.answer, answers),
                "em_format": em_with_format(em=em, well_formed=reading.well_formed, shows=reading.shows),
                "em_format_v03": em_with_format(em=em, well_formed=reading.well_formed, shows=False),
            }
            for name, value in scores.items():
                wanted = record["rewards"].get(name + suffix)
                assert wanted is None or value == pytest.approx(wanted), (record["episode"], name, suffix)
            if not suffix:
                seen = reading.answer, reading.well_formed, reading.shows
                assert seen == tuple(record[key] for key in ("extracted", "well_formed", "retrieval_correct"))
            else:
                assert reading.answer == record["extracted_bare"]


# -- what the original raises on ------------------------------------------------------------------


@contextmanager
def serving(status, body):
    """A server that always answers this; yields its address and the bodies that have come."""
    seen = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            seen.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(status)
            self.send_header("Content-Length", str(len(body.encode())))
            self.end_headers()
            self.wfile.write(body.encode())

        def log_message(self, format, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/retrieve", seen
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.parametrize("record", [record for record in RAISES if "body" in record], ids=lambda record: record["case"])
def test_an_answer_of_the_server_fails_where_it_fails_search_r1(record):
    with serving(record["status"], record["body"]) as (address, seen):
        retriever = SearchR1Retriever(address)
        if record["exception"] is None:
            (hits,) = retriever.search(["x"], 3)
            session = QuestionSession(Question("1", "?", ("a",), "nq", "unclassified"), "search-r1", 3)
            assert [session.act("<search>x</search>", Finding(hits)).observation] == record["value"]
        else:
            with pytest.raises(RetrievalFailed, match=re.escape(f"status {record['status']}")):
                retriever.search(["x"], 3)
        assert seen == [{"queries": ["x"], "topk": 3, "return_scores": True}]


def test_a_server_is_asked_once_a_turn_for_all_queries_and_all_it_gives_is_shown(folder):
    found = [{"document": {"contents": f'"T{i}"\\nx'}} for i in range(2)]
    with serving(200, json.dumps({"result": [found] * 3})) as (address, seen):
        arguments = {"data": "official", "data_dir": folder, "split": "test", "compat": "search-r1"}
        envs = TextVectorEnv([SearchQAEnv(**arguments, retriever=address, topk=1) for _ in range(4)])
        envs.reset(seed=0)
        said = ["<search>a</search>", "<search> </search>", "<think>", "<search>a</search>"]
        observations, *_ = envs.step([parse_completion(text, search_r1.STYLE).action for text in said])
    assert seen == [{"queries": ["a", "", "a"], "topk": 1, "return_scores": True}]
    assert observations[0] == observations[1] == observations[3]
    assert observations[0].count("Doc ") == 2
    assert observations[2] == search_r1.INVALID_ACTION


def test_a_server_that_is_gone_fails():
    with pytest.raises(RetrievalFailed, match="cannot be asked"):
        SearchR1Retriever("http://127.0.0.1:9/retrieve").search(["x"], 3)


@pytest.mark.parametrize(
    ("case", "given", "score"),
    [
        ("golden answers null", {"target": None}, None),
        ("no target", {}, None),
        ("a number", {"target": 5}, None),
        ("a number in the list", {"target": ["a", 5]}, None),
        # The loader refuses what scores 0 whatever is answered, and reads what has one meaning.
        ("empty list", {"target": []}, None),
        ("empty text", {"target": ""}, None),
        ("a bare list", ["a"], ("a",)),
    ],
)
def test_golden_answers_that_break_the_rewards_are_refused_or_read_when_loaded(case, given, score):
    assert {f"reward {name}: {case}" for name in ("em", "em_format")} <= {record["case"] for record in RAISES}
    if score is not None:
        assert golden_answers(given) == score
    else:
        with pytest.raises(ValueError, match="answer"):
            golden_answers(given)


def test_the_other_recorded_failures_have_no_counterpart_or_are_errors(folder):
    other = {record["case"] for record in RAISES if "body" not in record and not record["case"].startswith("reward e")}
    assert other == {
        "connection refused",
        # No batch is passed to an environment, so no row of one can be over.
        "a finished row of the batch holds a search (the loop never passes one)",
        "a completion that is no text",
        "a completion of bytes",
        "no_think_rl on",  # no such setting
        # Any data set is scored here.
        "reward manager: a data source outside its list",
        "reward manager of the format: a data source outside its list",
        "reward manager: the data source as verl and SkyRL write it",
    }
    env = SearchQAEnv(data="official", data_dir=folder, split="test", compat="search-r1", retriever=Recorded("table"))
    env.reset(seed=0)
    for completion in (None, 5, b"<search>x</search>"):
        with pytest.raises(InvalidAction):
            env.step(completion)
    assert len(RAISES) == 42


# -- commands, and text that looks like one -------------------------------------------------------


def test_a_scripted_command_stands_for_a_bare_block(folder):
    env = SearchQAEnv(data="official", data_dir=folder, split="test", compat="search-r1", retriever=Recorded("table"))
    env.reset(options={"task_id": "search_qa/test/all/0004"})
    *_, terminated, _, info = env.step("answer[Oslo]")
    assert (terminated, info["is_success"], info["answer"], info["is_action_valid"]) == (True, True, "Oslo", True)


def test_a_completion_in_square_brackets_is_no_command():
    for completion in ("search[x]", "answer[Paris]", "completion[<answer>x</answer>]", "completion[]"):
        parsed = parse_completion(completion, search_r1.STYLE)
        assert search_r1.written(parsed.action) == search_r1.cut(completion)
        session = QuestionSession(Question("1", "?", ("Paris",), "nq", "unclassified"), "search-r1", 3)
        reply = session.act(parsed.action)
        assert reply.is_valid == ("<answer>" in completion)
        assert session.state.transcript == search_r1.cut(completion) + reply.observation


PIECES = st.sampled_from(["<search>", "</search>", "<answer>", "</answer>", "search[", "]", "<SEARCH>", "a", "\n", " "])


@given(st.lists(PIECES, max_size=12).map("".join))
def test_blocks_are_found_as_by_the_pattern_of_search_r1(text):
    kept = search_r1.cut(text)
    match = re.search(r"<(search|answer)>(.*?)</\1>", kept, re.DOTALL)
    assert search_r1.block(text) == ((match.group(1), match.group(2).strip()) if match else None)
    assert search_r1.written(search_r1.action_of(text)) == kept


def test_half_a_million_tags_that_nothing_closes():
    assert search_r1.block("<search><answer>" * 500_000) is None


def test_a_rendered_demonstration_is_its_own_action():
    text = render_completion(search_r1.STYLE, "search[river]", "I look for it.")
    assert text == "<think>I look for it.</think>\n<search>river</search>"
    assert parse_completion(text, search_r1.STYLE).action == text
