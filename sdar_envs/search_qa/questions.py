"""Question type and readers for the file formats of open-domain QA data sets.

Read are JSON lines, JSON lists and Parquet files with the rows of FlashRAG (`id`, `question`, `golden_answers`),
Search-R1 (the same columns and more), the reference (`env_kwargs`), verl and SkyRL (`extra_info.tools_kwargs`,
`reward_model` or `reward_spec`) and Agentic-RAG (`extra_info.question` and `extra_info.answer`, or `question` and
`answer`). Golden answers may be a text, a list, an array, or any of these as `{"target": ...}`.

Rows that cannot be played (no question, no golden answer, not an object) are refused with file and line: leaving one
out silently would change every number. A golden answer that is empty after normalisation, such as "The", equals an
empty answer and occurs in every answer: it is left out and counted in a warning, and a row with no other is refused.
"""

from __future__ import annotations

import gzip
import html
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeGuard

from sdar_envs.errors import CorruptData, InvalidOption, MissingData, check_choice
from sdar_envs.files.json_text import parse_json
from sdar_envs.importing import import_extra
from sdar_envs.search_qa.scoring import normalize

__all__ = [
    "DATA_SETS",
    "ENDINGS",
    "QUESTION_TYPES",
    "UNCLASSIFIED",
    "Question",
    "from_row",
    "golden_answers",
    "question_type",
    "read_questions",
    "title_key",
    "without_empty",
]

ENDINGS = (".parquet", ".jsonl", ".jsonl.gz", ".json")
"""How the names of question files end."""

QUESTION_TYPES: tuple[str, ...] = (
    "direct_retrieval",
    "entity_attribute_lookup",
    "multi_hop_reasoning",
    "compare",
)
"""Task types of questions; they key the skills."""

UNCLASSIFIED = "unclassified"
"""Task type of questions from a data set that is not in `DATA_SETS`, if neither its rows nor the user name one."""

DATA_SETS: Mapping[str, str] = MappingProxyType(
    {
        "nq": "direct_retrieval",
        "triviaqa": "direct_retrieval",
        "popqa": "entity_attribute_lookup",
        "hotpotqa": "multi_hop_reasoning",
        "2wikimultihopqa": "multi_hop_reasoning",
        "musique": "multi_hop_reasoning",
        "bamboogle": "multi_hop_reasoning",
    }
)
"""The data sets of the benchmark, in the order of published tables, with the kind of their questions. In the
multi-hop sets, questions that compare two things are `compare`."""

# verl and SkyRL put this in front of a data set's name.
_PREFIX = "searchR1_"

# Names of data sets in Agentic-RAG's rows, which are those of their repositories.
_OTHER_NAMES = MappingProxyType(
    {
        "google-research-datasets/nq_open": "nq",
        "hotpotqa/hotpot_qa": "hotpotqa",
        "voidful/2WikiMultihopQA": "2wikimultihopqa",
        "bdsaglam/musique": "musique",
        "chiayewken/bamboogle": "bamboogle",
        "sewon/ambig_qa": "ambig_qa",
    }
)

# What the data sets call the kind of a question in their metadata.
_NAMES_OF_TYPES = MappingProxyType(
    {
        **{name: name for name in QUESTION_TYPES},
        "bridge": "multi_hop_reasoning",
        "compositional": "multi_hop_reasoning",
        "inference": "multi_hop_reasoning",
        "comparison": "compare",
        "bridge_comparison": "compare",
    }
)

# What is read of a Parquet file: some data sets carry passages along, gigabytes of them.
_COLUMNS = (
    "id",
    "question",
    "golden_answers",
    "data_source",
    "question_type",
    "env_kwargs",
    "answer",
    "reward_model",
    "reward_spec",
    "extra_info.index",
    "extra_info.question",
    "extra_info.answer",
    "extra_info.tools_kwargs",
    "metadata.type",
    "metadata.supporting_facts",
    "metadata.supporting",
    "metadata.queries",
)

# Two things and a choice: "which is older, A or B?", "are A and B both ...?", "do A and B have the same ...?"
_CHOICE = re.compile(r"\b(?:which|who|what|whose|is|are|was|were|did|does|do|between)\b.*\bor\b", re.IGNORECASE)
_BOTH = re.compile(
    r"^(?:is|are|was|were|do|does|did|have|has|had)\b.*\band\b.*\b(?:both|same|either|each)\b", re.IGNORECASE
)
# "what do A and B have in common?", "what profession do A and B share?", "what are A and B both?"
_COMMON = re.compile(
    r"\band\b.*\bin common\b|\b(?:do|did)\b.*\band\b.*\bshare\b|"
    r"^(?:what|which)\b.*\b(?:are|were|do|did|have|had)\b.*\band\b.*\b(?:both|each)\b",
    re.IGNORECASE,
)
_SAME = re.compile(r"^(?:is|are|was|were|do|does|did|have|has|had)\b.*\b(?:both|same)\b.*\band\b", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with its golden answers: data only.

    Attributes:
        id: unique in its data set and split.
        text: the question.
        answers: golden answers; each is right.
        data_set: where it comes from, such as `nq`.
        type: one of `QUESTION_TYPES`, or `UNCLASSIFIED`.
        supporting: ids of the passages that the answer follows from, in the order of the hops; empty if unknown.
        queries: searches that find them, one for each hop; empty if unknown.
        supporting_titles: titles of the passages that the answer follows from, of data sets that tell only these.
        answer_is_text: the golden answers came as one text instead of a list, which `compat="search-r1"` reads
            otherwise.
        aliases: other right spellings of the golden answers, which only `compat="fixed"` knows.
        folds_accents: whether accents count in no answer; only under `compat="fixed"`.
        kind: of the embedded questions, a finer kind than `type`, such as `chain of 3`; empty if unknown.
        path: of the embedded questions, the relations that lead to the answer, in order; empty if unknown.
        name_queries: searches for the hops by names alone; empty if unknown.
    """

    id: str
    text: str
    answers: tuple[str, ...]
    data_set: str
    type: str
    supporting: tuple[str, ...] = ()
    queries: tuple[str, ...] = ()
    supporting_titles: tuple[str, ...] = ()
    answer_is_text: bool = False
    aliases: tuple[str, ...] = ()
    folds_accents: bool = False
    kind: str = ""
    path: tuple[str, ...] = ()
    name_queries: tuple[str, ...] = ()


def title_key(title: str) -> str:
    """Return what titles of the same article have in common: data sets differ in case, spaces and HTML entities."""
    return " ".join(html.unescape(title).replace("_", " ").split()).casefold()


def golden_answers(value: Any) -> tuple[str, ...]:
    """Parse golden answers in any of the forms that data sets have.

    Args:
        value: a text, a sequence of texts (list, tuple, NumPy array), or one of these as `{"target": ...}`.

    Raises:
        ValueError: it is something else, or empty.
    """
    if isinstance(value, Mapping):
        if "target" not in value:
            raise ValueError(f"the answer is {_short(value)}; wanted a mapping with the key 'target'")
        value = value["target"]
    if hasattr(value, "tolist"):
        value = value.tolist()
    answers = (value,) if isinstance(value, str) else value
    if not isinstance(answers, Sequence) or not all(isinstance(answer, str) for answer in answers):
        raise ValueError(f"the answer is {_short(value)}; wanted a text, a list of texts, or one of these as 'target'")
    if not any(answer.strip() for answer in answers):
        raise ValueError("it has no golden answer")
    return tuple(answers)


def question_type(text: str, data_set: str, named: object = None) -> str:
    """Return the task type of a question: by its row, else by its data set and its wording.

    The wording is that of the question alone, by whole words, and decides only whether a question of a multi-hop set
    compares two things: the reference looked at the whole prompt, whose template made it never find one.

    Args:
        text: the question.
        data_set: its data set.
        named: what the row calls its kind, if anything.
    """
    if isinstance(named, str) and named in _NAMES_OF_TYPES:
        return _NAMES_OF_TYPES[named]
    kind = DATA_SETS.get(data_set, UNCLASSIFIED)
    if kind == "multi_hop_reasoning" and _compares(text):
        return "compare"
    return kind


def _compares(text: str) -> bool:
    return any(pattern.search(text) for pattern in (_CHOICE, _BOTH, _SAME, _COMMON))


def read_questions(
    path: Path, *, data_set: str | None = None, default_type: str | None = None, keeps_empty: bool = False
) -> list[Question]:
    """Read the questions of a file in their order.

    Args:
        path: `.jsonl`, `.jsonl.gz`, `.json` (a list of rows) or `.parquet` (needs pyarrow).
        data_set: the data set of rows that name none; by default the name of the file's folder.
        default_type: the kind of questions whose row and data set tell none.
        keeps_empty: keep golden answers that are empty after normalisation, as the reference and Search-R1 do.

    Raises:
        MissingData: there is no such file.
        CorruptData: a row cannot be played; the message says which and why.
        InvalidOption: the file has another ending, or `default_type` is not a kind of question.
        MissingExtra: it is a Parquet file and pyarrow is not installed.
    """
    if default_type is not None:
        check_choice("question_type", default_type, QUESTION_TYPES)
    name = path.parent.name if data_set is None else data_set
    questions = []
    seen: dict[tuple[str, str], int] = {}
    left_out: list[tuple[int, str]] = []
    for number, row in _rows(path):
        try:
            question = from_row(row, name, number, default_type)
            if not keeps_empty:
                empty = [(number, answer) for answer in question.answers if not normalize(answer)]
                if empty:
                    question = without_empty(question)
                    left_out += empty
        except ValueError as error:
            raise CorruptData(f"{path}, row {number}: {error}. Correct the row or remove it.") from error
        first = seen.setdefault((question.data_set, question.id), number)
        if first != number:
            raise CorruptData(
                f"{path}, row {number}: the id {question.id!r} is that of row {first} too. Ids must differ within a "
                "data set."
            )
        questions.append(question)
    if left_out:
        number, answer = left_out[0]
        warnings.warn(
            f"{path}: {len(left_out)} golden answer(s) in {len({row for row, _ in left_out})} row(s) are empty after "
            f"normalisation, the first {answer!r:.80} in row {number}. They were left out, because they would match "
            "answers that say nothing. The compat modes keep them.",
            stacklevel=2,
        )
    return questions


def without_empty(question: Question) -> Question:
    """Return the question without golden answers that are empty after normalisation.

    Raises:
        ValueError: there is no other.
    """
    usable = tuple(answer for answer in question.answers if normalize(answer))
    if not usable:
        raise ValueError(
            f"all its golden answers are empty after normalisation ({_short(list(question.answers))}), so that an "
            "empty answer would be right; compat='sdar' and 'search-r1' play it all the same"
        )
    return replace(question, answers=usable)


def _rows(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield (number from 1, row): of JSON lines, the number of the line."""
    if not path.is_file():
        raise MissingData(f"there is no file {path}: check the folder, or download the data set first.")
    if path.name.endswith(".parquet"):
        yield from enumerate(_parquet_rows(path), 1)
        return
    if not path.name.endswith(ENDINGS):
        raise InvalidOption(f"{path} is not a question file; wanted a name that ends in {', '.join(ENDINGS)}.")
    if path.name.endswith(".json"):
        yield from enumerate(_json_rows(path), 1)
        return
    with gzip.open(path, "rb") if path.name.endswith(".gz") else open(path, "rb") as file:
        number = 0
        try:
            for number, line in enumerate(file, 1):
                if line.strip():
                    yield number, parse_json(line.decode("utf-8-sig" if number == 1 else "utf-8"))
        except (ValueError, EOFError, gzip.BadGzipFile) as error:
            raise CorruptData(f"{path}, line {number}: it cannot be read as JSON in UTF-8 ({error}).") from error


def _json_rows(path: Path) -> list[Any]:
    try:
        rows = parse_json(path.read_bytes().decode("utf-8-sig"))
    except ValueError as error:
        raise CorruptData(f"{path} cannot be read as JSON in UTF-8 ({error}).") from error
    if not isinstance(rows, list):
        raise CorruptData(f"{path} holds {_short(rows)}; wanted a JSON list of questions, or the ending .jsonl.")
    return rows


def _parquet_rows(path: Path) -> Iterator[dict[str, Any]]:
    pyarrow, parquet = (
        import_extra(module, extra="parquet", purpose="reading Parquet files")
        for module in ("pyarrow", "pyarrow.parquet")
    )
    try:
        with parquet.ParquetFile(path) as file:
            columns = file.schema_arrow.names
            if not {"question", "env_kwargs", "extra_info"} & set(columns):
                raise CorruptData(
                    f"{path} has the columns {', '.join(columns)}; wanted 'question', 'env_kwargs' or 'extra_info'."
                )
            for batch in file.iter_batches(columns=_COLUMNS):
                yield from batch.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise CorruptData(f"{path} cannot be read as Parquet ({error}).") from error


def from_row(row: Any, data_set: str, number: int, default_type: str | None = None) -> Question:
    """Parse a row of any of the forms.

    Args:
        row: the row.
        data_set: its data set if it names none.
        number: of the row, from 1: gives the id if it has none.
        default_type: the kind if row and data set tell none.

    Raises:
        ValueError: the row cannot be played; the message says why.
    """
    if not isinstance(row, Mapping):
        raise ValueError(f"it is {_short(row)}; wanted an object with 'question' and 'golden_answers'")
    places = _places(row)
    text = next((place["question"] for place in places if place.get("question") is not None), None)
    if not isinstance(text, str) or not text.strip():
        raise ValueError(f"'question' is {_short(text)}; wanted a text, also as 'extra_info.question'")
    given = _answers_of(row, places)
    answers = golden_answers(given)
    target = given["target"] if isinstance(given, Mapping) else given
    name = next((place["data_source"] for place in places if place.get("data_source")), None) or data_set
    if not isinstance(name, str):
        raise ValueError(f"'data_source' is {_short(name)}; wanted a text")
    name = _OTHER_NAMES.get(name, name.removeprefix(_PREFIX) or name)
    metadata = row.get("metadata")
    metadata = metadata if isinstance(metadata, Mapping) else {}
    kind = question_type(text, name, row.get("question_type") or metadata.get("type"))
    supporting, queries = _texts(metadata, "supporting"), _texts(metadata, "queries")
    if queries and len(queries) != len(supporting):
        raise ValueError(f"metadata has {len(queries)} queries for {len(supporting)} supporting; wanted one for each")
    return Question(
        id=_id(row, number),
        text=text,
        answers=answers,
        data_set=name,
        type=default_type if kind == UNCLASSIFIED and default_type is not None else kind,
        supporting=supporting,
        queries=queries,
        supporting_titles=() if supporting else _supporting_titles(metadata),
        answer_is_text=isinstance(target, str),
    )


def _places(row: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the mappings of a row that may hold the question, the most specific first.

    The reference's processed rows keep in `env_kwargs` all that their environment reads, verl's and SkyRL's keep a
    tool's arguments in `extra_info.tools_kwargs`.
    """
    places = [row.get("env_kwargs"), row]
    extra = row.get("extra_info")
    if isinstance(extra, Mapping):
        tools = extra.get("tools_kwargs")
        for tool in tools.values() if isinstance(tools, Mapping) else ():
            places.append(tool.get("create_kwargs") if isinstance(tool, Mapping) else None)
        places.append(extra)
    return [place for place in places if isinstance(place, Mapping)]


def _answers_of(row: Mapping[str, Any], places: Sequence[Mapping[str, Any]]) -> Any:
    # `answer` before the reward's `ground_truth`: Agentic-RAG's holds all golden answers in one text, joined by commas.
    for place in places:
        for key in ("ground_truth", "golden_answers", "answer"):
            if place.get(key) is not None:
                return place[key]
    for name in ("reward_model", "reward_spec"):
        reward = row.get(name)
        if isinstance(reward, Mapping) and reward.get("ground_truth") is not None:
            return reward["ground_truth"]
    raise ValueError(
        "it has no answers: wanted 'golden_answers', 'env_kwargs', 'extra_info.answer', 'reward_model' or 'reward_spec'"
    )


def _id(row: Mapping[str, Any], number: int) -> str:
    name = row.get("id")
    if name is None:
        extra = row.get("extra_info")
        index = extra.get("index") if isinstance(extra, Mapping) else None
        name = number - 1 if index is None else index
    return str(name)


def _supporting_titles(metadata: Mapping[str, Any]) -> tuple[str, ...]:
    """Return the titles of HotpotQA's `supporting_facts`: a mapping of lists, or a list of pairs or mappings."""
    facts = metadata.get("supporting_facts")
    titles = facts.get("title") if isinstance(facts, Mapping) else facts
    if not _is_list(titles):
        return ()
    names = [
        title.get("title") if isinstance(title, Mapping) else title[0] if _is_list(title) and title else title
        for title in titles
    ]
    return tuple(dict.fromkeys(name for name in names if isinstance(name, str)))


def _is_list(value: object) -> TypeGuard[Sequence[Any]]:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _texts(metadata: Mapping[str, Any], key: str) -> tuple[str, ...]:
    values = metadata.get(key) or ()
    if isinstance(values, str) or not all(isinstance(value, str) for value in values):
        raise ValueError(f"metadata[{key!r}] is {_short(values)}; wanted a list of texts")
    return tuple(values)


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:80]}..."
