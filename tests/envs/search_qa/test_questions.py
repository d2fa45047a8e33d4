"""Questions of every form that data sets come in, and rows that are refused."""

from __future__ import annotations

import gzip
import json

import gymnasium
import numpy as np
import pytest
from helpers.invented import DATA
from hypothesis import given
from hypothesis import strategies as st

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.search_qa import questions
from sdar_envs.search_qa.env import SearchQAEnv
from sdar_envs.search_qa.questions import UNCLASSIFIED, Question, golden_answers, question_type, read_questions
from sdar_envs.search_qa.scoring import normalize
from sdar_envs.search_qa.tasks import official_tasks, question_of

FLASHRAG = {"id": "test_0", "question": "who wrote dracula", "golden_answers": ["Bram Stoker"], "metadata": {}}
SEARCH_R1 = {
    "id": "test_0",
    "question": "who wrote dracula?",
    "golden_answers": ["Bram Stoker"],
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "..."}],
    "ability": "fact-reasoning",
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Bram Stoker"]}},
    "extra_info": {"split": "test", "index": 0},
}
PROCESSED = {
    "data_source": "nq",
    "prompt": [{"role": "user", "content": "who wrote dracula?"}],
    "ability": "fact-reasoning",
    "reward_model": {"style": "rule", "ground_truth": {"target": ["Bram Stoker"]}},
    "extra_info": {"index": 7, "need_tools_kwargs": True, "question": "who wrote dracula?", "split": "test"},
    "metadata": None,
    "env_kwargs": {
        "ground_truth": {"target": ["Bram Stoker"]},
        "question": "who wrote dracula?",
        "data_source": "nq",
    },
}


def write(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    text = "".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows)
    if path.name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text, encoding="utf-8")
    return path


def write_parquet(path, rows):
    pyarrow = pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    from pyarrow import parquet

    path.parent.mkdir(parents=True, exist_ok=True)
    parquet.write_table(pyarrow.Table.from_pylist(rows), path)
    return path


@pytest.mark.parametrize(
    "value",
    [
        "abc",
        ["abc"],
        ("abc",),
        np.array(["abc"], dtype=object),
        {"target": "abc"},
        {"target": ["abc"]},
        {"target": np.array(["abc"], dtype=object)},
    ],
)
def test_golden_answers_of_any_form(value):
    assert golden_answers(value) == ("abc",)


@pytest.mark.parametrize(
    "value", [{"answers": ["abc"]}, {"target": [1]}, 3, None, [], "", [""], {"target": []}, [["a"]]]
)
def test_answers_that_cannot_be_used(value):
    with pytest.raises(ValueError, match=r"wanted|no golden answer"):
        golden_answers(value)


def test_the_forms_of_all_three_sources(tmp_path):
    expected = ("who wrote dracula", ("Bram Stoker",), "nq", "direct_retrieval")
    read = [
        *read_questions(write(tmp_path / "nq" / "test.jsonl", [FLASHRAG, "\n"])),
        *read_questions(write(tmp_path / "nq" / "test.jsonl.gz", [FLASHRAG])),
        *read_questions(write_parquet(tmp_path / "test.parquet", [SEARCH_R1])),
        *read_questions(write_parquet(tmp_path / "processed" / "test.parquet", [PROCESSED])),
    ]
    assert [(q.text.rstrip("?"), q.answers, q.data_set, q.type) for q in read] == [expected] * 4
    assert [q.id for q in read] == ["test_0", "test_0", "test_0", "7"]


def test_of_a_parquet_file_only_what_is_needed_is_read(tmp_path):
    metadata = {"type": "comparison", "supporting": ["p"], "context": ["a long text"], "queries": ["q"]}
    path = write_parquet(tmp_path / "test.parquet", [{**SEARCH_R1, "metadata": metadata}])
    assert read_questions(path) == [
        Question("test_0", "who wrote dracula?", ("Bram Stoker",), "nq", "compare", ("p",), ("q",))
    ]
    ((_, row),) = questions._rows(path)
    assert row["metadata"] == {"type": "comparison", "supporting": ["p"], "queries": ["q"]}
    assert "prompt" not in row
    with pytest.raises(CorruptData, match="has the columns a, b; wanted 'question'"):
        read_questions(write_parquet(tmp_path / "other.parquet", [{"a": 1, "b": 2}]))


def play(folder):
    env = gymnasium.make("sdar/SearchQA-v0", data="official", data_dir=str(folder), split="test", retriever="embedded")
    observation, info = env.reset(seed=0)
    *_, end = env.step("answer[bram stoker]")
    return observation, info["data_set"], info["task_type"], info["task_id"], end["won"]


def test_all_forms_are_played(tmp_path):
    write(tmp_path / "flashrag" / "nq" / "test.jsonl", [FLASHRAG])
    write_parquet(tmp_path / "search-r1" / "test.parquet", [SEARCH_R1])
    write_parquet(tmp_path / "processed" / "test.parquet", [PROCESSED])
    # A bare list: the original ends in TypeError when it is to score it.
    bare = {"id": "x", "env_kwargs": {**PROCESSED["env_kwargs"], "ground_truth": ["Bram Stoker"]}}
    write(tmp_path / "bare" / "test.jsonl", [bare])
    for name in ("flashrag", "search-r1", "processed", "bare"):
        observation, *facts = play(tmp_path / name)
        assert observation.rstrip("?") == "who wrote dracula"
        assert facts == ["nq", "direct_retrieval", "search_qa/test/nq/0000", True], name


def test_what_the_package_says_of_its_own_questions(tmp_path):
    metadata = {"type": "multi_hop_reasoning", "supporting": ["p1", "p2"], "queries": ["a", "b"]}
    row = {"id": "x", "question": "Q?", "golden_answers": ["B"], "data_source": "facts", "metadata": metadata}
    assert read_questions(write(tmp_path / "dev.jsonl", [row])) == [
        Question("x", "Q?", ("B",), "facts", "multi_hop_reasoning", ("p1", "p2"), ("a", "b"))
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("{broken\n", "row 2|line 2"),
        ("[1, 2]\n", r"row 2: it is \[1, 2\]"),
        ({"id": "a", "golden_answers": ["x"]}, "row 2: 'question' is None"),
        ({"id": "a", "question": " ", "golden_answers": ["x"]}, "row 2: 'question' is ' '"),
        ({"id": "a", "question": "q"}, "row 2: it has no answers"),
        ({"id": "a", "question": "q", "golden_answers": []}, "row 2: it has no golden answer"),
        ({"id": "a", "question": "q", "golden_answers": [1]}, r"row 2: the answer is \[1\]"),
        ({"id": "a", "question": "q", "golden_answers": ["x"], "data_source": 3}, "row 2: 'data_source' is 3"),
        (
            {"id": "a", "question": "q", "golden_answers": ["x"], "metadata": {"queries": "one"}},
            r"row 2: metadata\['queries'\] is 'one'",
        ),
        (
            {"id": "a", "question": "q", "golden_answers": ["x"], "metadata": {"queries": ["a", "b"]}},
            "row 2: metadata has 2 queries for 0 supporting",
        ),
        (FLASHRAG, "row 2: the id 'test_0' is that of row 1 too"),
    ],
)
def test_a_row_that_cannot_be_played_is_named(tmp_path, row, message):
    path = write(tmp_path / "nq" / "test.jsonl", [FLASHRAG, row])
    with pytest.raises(CorruptData, match=message):
        read_questions(path)


def test_files_that_cannot_be_read(tmp_path):
    with pytest.raises(MissingData, match="there is no file"):
        read_questions(tmp_path / "test.jsonl")
    (tmp_path / "test.csv").write_text("a,b")
    with pytest.raises(InvalidOption, match=r"\.parquet, \.jsonl, \.jsonl\.gz, \.json"):
        read_questions(tmp_path / "test.csv")
    (tmp_path / "test.jsonl").write_bytes(json.dumps(FLASHRAG).encode() + b'\n{"question": "caf\xe9"}\n')
    with pytest.raises(CorruptData, match="line 2: it cannot be read as JSON in UTF-8"):
        read_questions(tmp_path / "test.jsonl")
    whole = gzip.compress(json.dumps(FLASHRAG).encode() * 100)
    (tmp_path / "test.jsonl.gz").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CorruptData, match="line"):
        read_questions(tmp_path / "test.jsonl.gz")
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    (tmp_path / "test.parquet").write_bytes(b"PAR1 no more")
    with pytest.raises(CorruptData, match="cannot be read as Parquet"):
        read_questions(tmp_path / "test.parquet")


@pytest.mark.parametrize(
    ("text", "data_set", "named", "kind"),
    [
        # The reference searched for these words anywhere in a prompt that always contains "for".
        ("Which magazine was started first Arthur's Magazine or First for Women?", "hotpotqa", None, "compare"),
        ("Who was born later, Ann Lee or Bob Ray?", "2wikimultihopqa", None, "compare"),
        ("Are Random House and Penguin Books both publishers?", "hotpotqa", None, "compare"),
        ("Were both A and B directed by C?", "hotpotqa", None, "compare"),
        ("Do Alpha Lake and Beta Lake lie in the same country?", "2wikimultihopqa", None, "compare"),
        ("What do Alpha Ray and Beta Lee have in common?", "hotpotqa", None, "compare"),
        ("What do Alpha Ray and Beta Lee have in common", "hotpotqa", "bridge", "multi_hop_reasoning"),
        ("What profession did Alpha Ray and Beta Lee share?", "hotpotqa", None, "compare"),
        ("Alpha Lake and Beta Lake have what in common?", "hotpotqa", None, "compare"),
        ("What type of plant are Alpha and Beta both?", "hotpotqa", None, "compare"),
        ("What do Alpha Ray and Beta Lee have in common?", "nq", None, "direct_retrieval"),
        ("Which common ancestor do the owners of Alpha have?", "hotpotqa", None, "multi_hop_reasoning"),
        ("Who is the author of the book that came before Emma?", "musique", None, "multi_hop_reasoning"),
        ("In which for-profit company did the director work?", "bamboogle", None, "multi_hop_reasoning"),
        ("who sang or wrote it", "nq", None, "direct_retrieval"),
        ("What is X's occupation?", "popqa", None, "entity_attribute_lookup"),
        ("Who is older?", "hotpotqa", "comparison", "compare"),
        ("Which is it, A or B?", "hotpotqa", "bridge", "multi_hop_reasoning"),
        ("A or B?", "2wikimultihopqa", "bridge_comparison", "compare"),
        ("anything", "my-own-set", None, UNCLASSIFIED),
        ("anything", "my-own-set", "compare", "compare"),
        ("anything", "nq", "a name of theirs", "direct_retrieval"),
    ],
)
def test_kinds_of_question(text, data_set, named, kind):
    assert question_type(text, data_set, named) == kind


def test_a_data_set_that_is_not_known_takes_the_kind_that_the_user_names(tmp_path):
    path = write(tmp_path / "mine" / "test.jsonl", [FLASHRAG])
    assert [q.type for q in read_questions(path)] == [UNCLASSIFIED]
    assert [q.type for q in read_questions(path, default_type="compare")] == ["compare"]
    with pytest.raises(InvalidOption, match="Did you mean 'compare'"):
        read_questions(path, default_type="comparee")


# -- folders ------------------------------------------------------------------------------------


def flashrag(folder):
    """Write a folder of FlashRAG's layout with as many rows as the data set's place in the list."""
    for number, (name, split) in enumerate(
        [
            ("nq", "test"),
            ("nq", "train"),
            ("hotpotqa", "train"),
            ("hotpotqa", "dev"),
            ("musique", "train"),
            ("aaa", "test"),
        ],
        1,
    ):
        rows = [{**FLASHRAG, "id": f"{split}_{i}", "question": f"{name} {split} {i}"} for i in range(number)]
        write(folder / name / f"{split}.jsonl", rows)
    return str(folder)


def as_list(answers):
    return [answers] if isinstance(answers, str) else answers


def open_tasks(folder, **arguments):
    return official_tasks(folder, **{"data_sets": None, "default_type": None, "env_id": "x", **arguments})


def test_a_folder_for_each_data_set(tmp_path):
    tasks = open_tasks(flashrag(tmp_path))
    # train: what the reference trains on; test: test files, and the dev file where a data set has none.
    assert tasks.splits == {"train": 2 + 3, "dev": 4, "test": 1 + 4 + 6}
    listed = [tasks.task("test", i) for i in range(11)]
    assert [task.data["data_set"] for task in listed] == ["nq"] + ["hotpotqa"] * 4 + ["aaa"] * 6
    assert (listed[1].id, listed[1].instruction) == ("search_qa/test/hotpotqa/0000", "hotpotqa dev 0")
    assert [tasks.find(task.id) for task in listed] == listed
    assert len({task.id for task in listed}) == 11
    assert question_of(listed[1]).id == "dev_0"


def test_choosing_data_sets_keeps_ids(tmp_path):
    folder = flashrag(tmp_path)
    tasks = open_tasks(folder, data_sets=["musique", "hotpotqa"])
    assert tasks.splits == {"train": 5 + 3, "dev": 4, "test": 4}
    assert tasks.task("test", 0) == open_tasks(folder).task("test", 1)
    assert open_tasks(folder) is open_tasks(folder)
    with pytest.raises(UnknownName, match="Did you mean 'musique'"):
        open_tasks(folder, data_sets=["musik"])
    with pytest.raises(UnknownName, match="no task 'search_qa/test/nq/0001'; the ids of this split"):
        open_tasks(folder).find("search_qa/test/nq/0001")
    with pytest.raises(UnknownName, match="Did you mean 'search_qa/test/hotpotqa/0000'"):
        open_tasks(folder).find("search_qa/test/hotpot/0000")
    with pytest.raises(UnknownName, match="it has 11 tasks"):
        open_tasks(folder).task("test", 11)


def test_one_file_for_all_data_sets(tmp_path):
    rows = [json.loads(line) for line in (DATA / "questions.jsonl").read_text().splitlines()]
    rows = [row for row in rows if any(map(normalize, as_list(row["golden_answers"])))]
    write(tmp_path / "test.jsonl", rows)
    tasks = open_tasks(str(tmp_path))
    assert tasks.splits == {"test": len(rows)}
    # Sorted by data set, in each in the order of the file.
    of_nq = [row["question"] for row in rows if row["data_source"] == "nq"]
    assert [tasks.task("test", i).instruction for i in range(len(of_nq))] == of_nq


def test_a_changed_file_is_read_again(tmp_path):
    write(tmp_path / "test.jsonl", [FLASHRAG])
    assert open_tasks(str(tmp_path)).splits == {"test": 1}
    write(tmp_path / "test.jsonl", [FLASHRAG, {**FLASHRAG, "id": "b"}])
    assert open_tasks(str(tmp_path)).splits == {"test": 2}


def test_folders_that_hold_nothing(tmp_path, monkeypatch):
    monkeypatch.delenv("SEARCH_QA_DATA", raising=False)
    with pytest.raises(MissingData, match="SEARCH_QA_DATA"):
        open_tasks(None)
    with pytest.raises(MissingData, match="there is no folder"):
        open_tasks(str(tmp_path / "nowhere"))
    with pytest.raises(MissingData, match="holds no questions"):
        open_tasks(str(tmp_path))
    write(tmp_path / "test.jsonl", [FLASHRAG])
    monkeypatch.setenv("SEARCH_QA_DATA", str(tmp_path))
    assert open_tasks(None).splits == {"test": 1}
    write(tmp_path / "test.jsonl.gz", [FLASHRAG])
    with pytest.raises(InvalidOption, match="one file per split is read: pass the one you mean"):
        open_tasks(None)


# -- rows of other projects -----------------------------------------------------------------------

ROWS = sorted((DATA / "rows").glob("*.*"))
ROWS = [path for path in ROWS if path.suffix != ".md"]
INVENTED = {
    row["id"]: row for row in map(json.loads, (DATA / "questions.jsonl").read_text(encoding="utf-8").splitlines())
}
PLAYED = [INVENTED[name] for name in ("q0", "q1", "q14", "q30", "q52", "q62", "q84", "q86")]


@pytest.mark.parametrize("path", ROWS, ids=lambda path: path.name)
def test_rows_of_other_projects_are_read(path):
    if path.suffix == ".parquet":
        pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    read = read_questions(path, data_set="nq")
    first_only = path.name.startswith("agentic_rag_text")
    assert [question.text for question in read] == [row["question"] for row in PLAYED]
    assert [list(question.answers) for question in read] == [
        as_list(row["golden_answers"])[: 1 if first_only else None] for row in PLAYED
    ]
    # No name keeps a prefix, or is that of a repository. The JSON lists name none.
    names = {"verl": {"nq", "hotpotqa"}, "skyrl": {"nq", "hotpotqa"}, "agentic_rag_text": {"hotpotqa"}}
    assert {question.data_set for question in read} == names.get(path.stem, {"nq"})
    # SkyRL's and verl's rows name the kind and the titles of two of HotpotQA's.
    if path.name in ("verl.parquet", "skyrl.parquet"):
        hotpot = [question for question in read if question.data_set == "hotpotqa"]
        assert {(question.type, question.supporting_titles) for question in hotpot} >= {("compare", ("A", "B"))}


@pytest.mark.parametrize("name", ["verl", "skyrl", "agentic_rag", "agentic_rag_text"])
def test_rows_of_other_projects_are_played(tmp_path, name):
    pytest.importorskip("pyarrow", reason="Parquet files need pyarrow")
    # SkyRL saves the test questions as `validation.parquet`.
    target = tmp_path / ("validation.parquet" if name == "skyrl" else "test.parquet")
    target.write_bytes((DATA / "rows" / f"{name}.parquet").read_bytes())
    env = SearchQAEnv(data="official", data_dir=str(tmp_path), split="test", retriever="embedded")
    tasks = [env.source.task("test", i) for i in range(8)]
    for task in tasks:
        assert task.id.count("/") == 3  # no slash of a repository's name
        env.reset(options={"task_id": task.id})
        *_, info = env.step(f"answer[{task.data['answers'][-1]}]")
        assert info["won"], task


def test_a_file_can_be_named_where_a_folder_has_two(tmp_path):
    write(tmp_path / "train.jsonl", [FLASHRAG])
    write(tmp_path / "test.jsonl", [FLASHRAG])
    write(tmp_path / "train.json", [json.dumps([{**FLASHRAG, "id": str(i)} for i in range(3)])])
    with pytest.raises(InvalidOption, match=r"train\.jsonl and train\.json, .*data_dir='.*train\.jsonl'"):
        open_tasks(str(tmp_path))
    assert open_tasks(str(tmp_path / "train.jsonl")).splits == {"train": 1, "test": 1}
    assert open_tasks(str(tmp_path / "train.json")).splits == {"train": 3}
    write(tmp_path / "my_questions.jsonl", [FLASHRAG, {**FLASHRAG, "id": "b"}])
    assert open_tasks(str(tmp_path / "my_questions.jsonl")).splits == {"test": 2}
    write(tmp_path / "my_questions.csv", ["a"])
    with pytest.raises(InvalidOption, match=r"my_questions\.csv; wanted a folder"):
        open_tasks(str(tmp_path / "my_questions.csv"))


def test_a_json_file_that_is_no_list_of_rows(tmp_path):
    with pytest.raises(CorruptData, match="wanted a JSON list"):
        read_questions(write(tmp_path / "test.json", [FLASHRAG]))
    with pytest.raises(CorruptData, match="cannot be read as JSON"):
        read_questions(write(tmp_path / "test.json", ["["]))


# -- golden answers without words -----------------------------------------------------------------

EMPTY = [{**FLASHRAG, "golden_answers": ["Paris", ""]}, {**FLASHRAG, "id": "b", "golden_answers": ["The", "a", "Rome"]}]


def test_golden_answers_that_are_empty_after_normalisation_are_left_out_and_counted(tmp_path):
    path = write(tmp_path / "test.jsonl", EMPTY)
    with pytest.warns(UserWarning, match=r"3 golden answer\(s\) in 2 row\(s\) .*the first '' in row 1"):
        read = read_questions(path)
    assert [question.answers for question in read] == [("Paris",), ("Rome",)]


@pytest.mark.parametrize("answers", ["The The", ["The"], ["", "!!!"], {"target": ["a"]}])
def test_a_row_whose_golden_answers_are_all_empty_after_normalisation_is_refused(tmp_path, answers):
    path = write(tmp_path / "test.jsonl", [FLASHRAG, {**FLASHRAG, "id": "b", "golden_answers": answers}])
    with pytest.raises(CorruptData, match=r"test\.jsonl, row 2: all its golden answers are empty"):
        read_questions(path)
    # The originals play it.
    assert read_questions(path, keeps_empty=True)[1].answers == golden_answers(answers)


def test_no_empty_answer_is_right_and_not_every_answer_holds_a_golden_one(tmp_path):
    write(tmp_path / "test.jsonl", EMPTY[:1])
    arguments = {"data": "official", "data_dir": str(tmp_path), "split": "test", "retriever": "embedded"}
    with pytest.warns(UserWarning, match="left out"):
        env = SearchQAEnv(**arguments)
    for answer in ("", "the", "anything"):
        env.reset(seed=0)
        *_, info = env.step(f"answer[{answer}]")
        assert (info["metrics"]["em"], info["metrics"]["sub_em"]) == (0.0, 0.0)
    original = SearchQAEnv(**arguments, compat="sdar")
    original.reset(seed=0)
    assert original.step("answer[]")[4]["metrics"]["em"] == 1.0


# -- what the answer follows from -----------------------------------------------------------------


@pytest.mark.parametrize(
    "facts",
    [
        {"title": ["Kiss & Tell", "Lima", "Lima"], "sent_id": [0, 1, 2]},
        [["Kiss & Tell", 0], ["Lima", 1]],
        [{"title": "Kiss & Tell", "sent_id": 0}, {"title": "Lima", "sent_id": 1}],
    ],
)
def test_supporting_facts_name_the_titles(tmp_path, facts):
    row = {**FLASHRAG, "metadata": {"supporting_facts": facts}}
    (read,) = read_questions(write(tmp_path / "test.jsonl", [row]))
    assert read.supporting_titles == ("Kiss & Tell", "Lima")
    task = open_tasks(str(tmp_path)).task("test", 0)
    assert question_of(task).supporting_titles == read.supporting_titles


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda x: st.lists(x, max_size=3) | st.dictionaries(st.sampled_from(["target", "x"]), x),
    )
)
def test_any_value_is_answers_or_refused(value):
    try:
        answers = golden_answers(value)
    except ValueError:
        return
    assert answers
    assert all(isinstance(answer, str) for answer in answers)
