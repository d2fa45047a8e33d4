"""Corpora: what is read, what is refused and how, and that no text stays in memory."""

import gzip
import hashlib
import json
import pickle
import struct
import tracemalloc

import pytest
from helpers.passages import places, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.search_qa import corpus as module
from sdar_envs.search_qa.corpus import Corpus, import_corpus, read_passages
from sdar_envs.search_qa.retrieval.retriever import Passage

GOOD = b'{"id": "0", "contents": "\\"A\\"\\na"}\n'


@pytest.mark.parametrize(
    ("row", "passage"),
    [
        ({"id": "7", "contents": '"T"\nx'}, Passage("7", '"T"\nx')),
        ({"id": 7, "contents": "no title"}, Passage("7", "no title")),
        ({"id": 0, "contents": '"T"\n', "title": 5, "text": None}, Passage("0", '"T"\n')),
        ({"id": "é", "title": "T", "text": " x "}, Passage("é", '"T"\n x ')),
        ({"_id": "b1", "title": "two\nlines", "text": "x", "metadata": {}}, Passage("b1", '"two lines"\nx')),
        ({"id": "", "text": "x"}, Passage("", '""\nx')),
        ({"id": "n", "title": None, "text": "x\x00y"}, Passage("n", '""\nx\x00y')),
    ],
)
def test_rows(tmp_path, row, passage):
    path = tmp_path / "corpus.jsonl"
    for ensure_ascii in (False, True):
        path.write_text(json.dumps(row, ensure_ascii=ensure_ascii), encoding="utf-8")
        assert list(read_passages(path)) == [(1, passage)]


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        (b'{"id": "1", "contents": "\xff"}', "not UTF-8"),
        (b"not json", "not JSON (Expecting value at character 0)"),
        (b'{"id": "1", "contents": "x"', "not JSON"),
        (b"[" * 100_000, "JSON beyond all measure"),
        (b'{"id": ' + b"1" * 5000 + b', "text": "x"}', "JSON beyond all measure"),
        (b"[1, 2]", "it is [1, 2], not an object"),
        (b'"text"', "it is 'text', not an object"),
        (b'{"contents": "x"}', "its id is None"),
        (b'{"id": null, "contents": "x"}', "its id is None"),
        (b'{"id": true, "contents": "x"}', "its id is True"),
        (b'{"id": 1.5, "contents": "x"}', "its id is 1.5"),
        (b'{"id": ["a"], "contents": "x"}', "its id is ['a']"),
        (b'{"id": "1"}', "no text: wanted 'contents' or 'text', its keys are id"),
        (b'{"id": "1", "title": "T"}', "its keys are id, title"),
        (b'{"id": "1", "contents": " \\n"}', "no text"),
        (b'{"id": "1", "contents": 5}', "no text"),
        (b'{"id": "1", "title": "T", "text": ""}', "no text"),
        (b'{"id": "1", "title": 5, "text": "x"}', "its title is 5"),
        (b'{"id": "1", "contents": "\\ud800"}', "half a surrogate pair"),
        (b'{"id": "\\udfff", "contents": "x"}', "half a surrogate pair"),
    ],
)
def test_bad_lines(tmp_path, line, complaint):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(GOOD + b"\n" + line + b"\n" + GOOD.replace(b"0", b"2"))
    with pytest.raises(CorruptData) as caught:
        import_corpus(path, tmp_path / "out")
    message = str(caught.value)
    assert message.startswith(f"{path}, line 3 is not a passage: ")
    assert complaint in message
    assert len(message) < 600


def test_line_ends_marks_and_blank_lines(tmp_path):
    path = tmp_path / "corpus.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD[:-1] + b"\r\n\r\n  \n" + GOOD.replace(b"0", b"1")[:-1])
    assert [(number, passage.id) for number, passage in read_passages(path)] == [(1, "0"), (4, "1")]


def test_no_file_and_no_passage(tmp_path):
    with pytest.raises(MissingData, match="there is no corpus"):
        list(read_passages(tmp_path / "none.jsonl"))
    with pytest.raises(CorruptData, match="cannot be read to its end"):
        list(read_passages(tmp_path))
    (tmp_path / "empty.jsonl").write_bytes(b"\n \n")
    with pytest.raises(CorruptData, match="holds no passage"):
        import_corpus(tmp_path / "empty.jsonl", tmp_path / "out")


def test_compressed(tmp_path):
    plain = write_corpus(tmp_path / "corpus.jsonl", places())
    packed = tmp_path / "no-telling-name"
    packed.write_bytes(gzip.compress(plain.read_bytes()))
    assert list(read_passages(packed)) == list(read_passages(plain))
    one, other = import_corpus(plain, tmp_path / "one"), import_corpus(packed, tmp_path / "other")
    assert one.sha256 == other.sha256
    packed.write_bytes(packed.read_bytes()[:-9])
    with pytest.raises(CorruptData, match="cannot be read to its end"):
        import_corpus(packed, tmp_path / "cut")
    packed.write_bytes(gzip.compress(plain.read_bytes())[:200] + bytes(100))
    with pytest.raises(CorruptData, match="cannot be read to its end"):
        import_corpus(packed, tmp_path / "damaged")


@pytest.mark.parametrize(("first", "second"), [("7", "7"), (7, "7"), ("", "")])
def test_repeated_ids(tmp_path, first, second):
    path = tmp_path / "corpus.jsonl"
    rows = [
        {"id": "x", "text": "x"},
        {"id": first, "text": "a"},
        None,
        {"id": "y", "text": "y"},
        {"id": second, "text": "b"},
    ]
    path.write_text("\n".join("" if row is None else json.dumps(row) for row in rows))
    with pytest.raises(CorruptData, match=f"line 5 has the id '{second}', as line 2 has: ids must be unique"):
        import_corpus(path, tmp_path / "out")


def test_equal_hashes_are_no_equal_ids(tmp_path, monkeypatch):
    path = write_corpus(tmp_path / "corpus.jsonl", places())
    monkeypatch.setattr(module, "hash", len, raising=False)
    assert list(import_corpus(path, tmp_path / "one")) == places()
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[10])
    with pytest.raises(CorruptData, match="line 81 has the id 'Kalmere-mayor', as line 11 has"):
        import_corpus(path, tmp_path / "two")


texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(deadline=None)
@given(st.lists(st.tuples(texts, texts.filter(str.strip)), min_size=1, max_size=8, unique_by=lambda row: row[0]))
def test_what_went_in_comes_out(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("corpus")
    passages = [Passage(*row) for row in rows]
    corpus = import_corpus(write_corpus(folder / "corpus.jsonl", passages), folder / "one")
    again = Corpus.open(folder / "one")
    copy = pickle.loads(pickle.dumps(again))
    assert list(corpus) == list(again) == list(copy) == passages
    assert (len(again), again.sha256) == (len(passages), corpus.sha256)
    assert again.nbytes == sum(len((passage.id + passage.contents).encode()) for passage in passages)


def test_places(tmp_path):
    corpus = import_corpus(write_corpus(tmp_path / "corpus.jsonl", places()), tmp_path / "one")
    assert corpus[-1] == places()[-1]
    assert corpus[3:9:2] == places()[3:9:2]
    for place in (80, -81):
        with pytest.raises(IndexError, match=f"no passage {place}; the corpus has 80"):
            corpus[place]


def test_the_hash_is_of_the_content(tmp_path):
    def sha256(name, *rows):
        path = tmp_path / f"{name}.jsonl"
        path.write_text("\n".join(map(json.dumps, rows)))
        return import_corpus(path, tmp_path / name).sha256

    whole = sha256("contents", {"id": "1", "contents": '"T"\nx'}, {"id": "2", "contents": '"U"\ny'})
    parts = [b"1", b'"T"\nx', b"2", b'"U"\ny']
    assert whole == hashlib.sha256(b"".join(parts) + struct.pack("<5q", 0, 1, 6, 7, 12)).hexdigest()
    assert whole == sha256("split", {"_id": 1, "title": "T", "text": "x"}, {"id": 2, "title": "U", "text": "y"})
    others = {
        sha256("order", {"id": "2", "contents": '"U"\ny'}, {"id": "1", "contents": '"T"\nx'}),
        sha256("id", {"id": "1", "contents": '"T"\nx'}, {"id": "3", "contents": '"U"\ny'}),
        sha256("border", {"id": '1"', "contents": 'T"\nx'}, {"id": "2", "contents": '"U"\ny'}),
        whole,
    }
    assert len(others) == 4


@pytest.mark.parametrize("name", ["passages.bin", "offsets/offsets.npy", "offsets/index.json"])
@pytest.mark.parametrize("how", ["cut", "flip", "delete"])
def test_damage(tmp_path, name, how):
    import_corpus(write_corpus(tmp_path / "corpus.jsonl", places()), tmp_path / "one")
    path = tmp_path / "one" / name
    content = bytearray(path.read_bytes())
    if how == "delete":
        path.unlink()
    elif how == "cut":
        path.write_bytes(content[:-5])
    else:
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    with pytest.raises((CorruptData, MissingData)):
        Corpus.open(tmp_path / "one")


def test_the_texts_are_not_held_in_memory(tmp_path):
    path = tmp_path / "corpus.jsonl"
    line = json.dumps({"id": "0000", "contents": "long " * 1000})
    path.write_text("\n".join(line.replace("0000", f"{i:04}") for i in range(4000)))
    assert path.stat().st_size > 20_000_000
    tracemalloc.start()
    corpus = import_corpus(path, tmp_path / "one")
    assert sum(len(passage.contents) for passage in corpus) == 20_000_000
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 3_000_000


# -- DPR's table ---------------------------------------------------------------------------------

TABLE = (
    "id\ttext\ttitle\n"
    '1\t"Aaron ( or ; ""Ahärôn"") is a prophet.\tNot a tab"\tAaron\n'
    '2\tLima is a city.\t"""Lima"", again"\r\n'
)


@pytest.mark.parametrize("is_compressed", [False, True])
def test_the_table_of_passages_is_read(tmp_path, is_compressed):
    path = tmp_path / "psgs_w100.tsv"
    path.write_bytes(gzip.compress(TABLE.encode()) if is_compressed else TABLE.encode())
    assert list(read_passages(path)) == [
        (2, Passage("1", '"Aaron"\nAaron ( or ; "Ahärôn") is a prophet.\tNot a tab')),
        (3, Passage("2", '""Lima", again"\nLima is a city.')),
    ]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        (b"1\ttext", "line 2 is not a passage: it has 2 fields; wanted id, text and title"),
        (b"1\t \ttitle", "line 2 is not a passage: it has no text"),
        (b"1\t\xff\ttitle", "line 2 is not a passage: it is not UTF-8"),
        (b"1\t" + b"x" * 200_000 + b"\tt", "it is no row of a table"),
    ],
)
def test_a_row_of_the_table_that_is_no_passage_is_named(tmp_path, row, message):
    path = tmp_path / "psgs_w100.tsv"
    path.write_bytes(b"id\ttext\ttitle\n" + row + b"\n")
    with pytest.raises(CorruptData, match=message):
        list(read_passages(path))
