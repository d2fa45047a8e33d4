"""Ranking: equal to the recorded one of Lucene, in memory and from disk, whatever happens to the cache."""

import errno
import gzip
import json
import math
import os
import pickle
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.bm25 import index as search
from sdar_envs.bm25.analyzer import analyze
from sdar_envs.bm25.index import SearchIndex, open_or_build
from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files import arrays
from sdar_envs.webshop.catalog.loading import CatalogFiles, load_catalog
from sdar_envs.webshop.catalog.products import document_text

DATA = Path(__file__).parents[1] / "webshop" / "data"
WORD_LIST = "red blue lamp desk shoe shoes running usb cable wood soft cotton large small tea café 灯 don't 12.5 the of"
WORDS = WORD_LIST.split()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webshop"


def documents(count=300, seed=0):
    rng = random.Random(seed)
    return [
        (f"B{rng.randrange(10**6):06}{i:03}", " ".join(rng.choices(WORDS, k=rng.randrange(60)))) for i in range(count)
    ]


def ranking(index, query, k=50):
    return index.search(query, k), index.scores(query, k)


QUERIES = [
    "red lamp",
    "running shoes shoes",
    "the",
    "café 灯 don't",
    "nothing known",
    "",
    "USB-cable, 12.5!",
    " ".join(WORDS),
]


@pytest.mark.parametrize("name", ["catalogue_edge200", "catalogue_plain1000"])
def test_all_recorded_rankings(name):
    products = load_catalog(CatalogFiles.find(str(DATA / name))).products
    index = SearchIndex.build(
        (product.asin, document_text(product.title, product.description, product.bullets[0], product.options))
        for product in products
    )
    with gzip.open(DATA / "lucene_rankings.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [row for row in map(json.loads, file) if row["catalogue"] == name]
    assert len(rows) == 400
    # The recorded scores have four digits after the point.
    wrong = [
        row["query"]
        for row in rows
        if [products[number].asin for number in index.search(row["query"])] != row["asins"]
        or [round(score, 4) for score in index.scores(row["query"])[:3]] != row["scores"]
    ]
    assert wrong == []


def test_scores_by_hand():
    # Lengths 3, 1 and 2, so the average is 2; "tea" is in two of three documents, once and twice.
    index = SearchIndex.build([("A", "red tea lamp"), ("B", "lamp"), ("C", "tea tea")])
    assert index.search("tea") == (2, 0)
    one, k1, b = np.float32(1), np.float32(0.9), np.float32(0.4)
    idf = np.float32(math.log(1 + (3 - 2 + 0.5) / (2 + 0.5)))
    norm_a = one / (k1 * ((one - b) + b * np.float32(3) / np.float32(2)))
    norm_c = one / (k1 * ((one - b) + b * np.float32(2) / np.float32(2)))
    expected = [idf - idf / (one + np.float32(2) * norm_c), idf - idf / (one + norm_a)]
    assert index.scores("tea") == tuple(map(float, expected))
    # A repeated word is a boost: exactly twice the score here.
    assert index.scores("tea Tea's") == tuple(2 * float(score) for score in expected)


def test_equal_scores_come_in_the_order_of_asins():
    index = SearchIndex.build([("B2", "lamp"), ("a1", "lamp"), ("B10", "lamp"), ("A9", "lamp")])
    assert index.search("lamp") == (3, 2, 0, 1)
    assert index.search("lamp", k=2) == (3, 2)
    assert index.search("lamp", k=0) == ()
    # Many equal documents, so that only a few candidates are sorted.
    asins = [f"B{number:05}" for number in random.Random(1).sample(range(10**5), 5000)]
    index = SearchIndex.build([(asin, "lamp") for asin in asins])
    assert [asins[number] for number in index.search("lamp")] == sorted(asins)[:50]


def test_length_steps_are_lucenes():
    steps = search._LENGTHS.tolist()
    assert steps[:41] == [*range(40), 40]
    assert steps[40:50] == [40, 42, 44, 46, 48, 50, 52, 54, 56, 60]
    assert len(steps) == 256
    assert steps[255] == 2_013_265_944  # what SmallFloat.byte4ToInt makes of the last byte


def plain_scores(corpus, query):
    """BM25 as the textbook has it, in float64, with rounded lengths."""
    texts = [Counter(analyze(text)) for _, text in corpus]
    lengths = [sum(text.values()) for text in texts]
    counted = max(1, sum(length > 0 for length in lengths))
    average = max(1, sum(lengths)) / counted
    rounded = [max(step for step in search._LENGTHS.tolist() if step <= length) for length in lengths]
    scores = [0.0] * len(texts)
    for word, boost in Counter(analyze(query)).items():
        frequency = sum(word in text for text in texts)
        idf = math.log(1 + (counted - frequency + 0.5) / (frequency + 0.5))
        for i, text in enumerate(texts):
            length = 0.9 * (0.6 + 0.4 * rounded[i] / average)
            scores[i] += boost * idf * text[word] / (text[word] + length)
    return scores


@settings(max_examples=60, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=90), min_size=1, max_size=12), st.lists(st.sampled_from(WORDS))
)
def test_scores_agree_with_the_textbook(texts, query):
    corpus = [(f"B{i}", " ".join(text)) for i, text in enumerate(texts)]
    index = SearchIndex.build(corpus)
    expected = plain_scores(corpus, " ".join(query))
    found = index.search(" ".join(query))
    assert sorted(found) == [i for i, score in enumerate(expected) if score > 0]
    assert index.scores(" ".join(query)) == pytest.approx([expected[i] for i in found], rel=1e-5)


def test_runs_do_not_show(monkeypatch):
    whole = SearchIndex.build(documents())
    expected = [ranking(whole, query) for query in QUERIES]
    monkeypatch.setattr(search, "_TOKENS_PER_RUN", 37)
    parts = SearchIndex.build(documents())
    assert all(np.array_equal(one, other) for one, other in zip(whole._arrays, parts._arrays, strict=True))
    assert [ranking(parts, query) for query in QUERIES] == expected


def files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@settings(max_examples=8, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from(WORDS), max_size=90), max_size=12),
    st.integers(20, 200),
    st.integers(5, 50),
)
def test_segments_on_disk_make_the_same_files(texts, tokens, postings):
    corpus = [(place, " ".join(text)) for place, text in enumerate(texts)]
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        folder = Path(name)
        SearchIndex.build(corpus).save(folder / "built")
        patch.setattr(search, "_TOKENS_PER_RUN", tokens)
        patch.setattr(search, "_POSTINGS_PER_BLOCK", postings)
        SearchIndex.write(iter(corpus), folder / "written")
        assert files(folder / "written") == files(folder / "built")
        assert sorted(path.name for path in folder.iterdir()) == ["built", "written"]


def test_segments_of_a_larger_corpus(monkeypatch, tmp_path):
    corpus = [(7 * place % 300, text) for place, (_, text) in enumerate(documents())]
    SearchIndex.build(corpus).save(tmp_path / "built")
    monkeypatch.setattr(search, "_TOKENS_PER_RUN", 301)
    monkeypatch.setattr(search, "_POSTINGS_PER_BLOCK", 97)
    written = SearchIndex.write(corpus, tmp_path / "written")
    assert files(tmp_path / "written") == files(tmp_path / "built")
    whole = SearchIndex.build(corpus)
    assert [ranking(written, query) for query in QUERIES] == [ranking(whole, query) for query in QUERIES]


def test_a_build_that_fails_leaves_no_segments(monkeypatch, tmp_path):
    def failing():
        yield from ((place, text) for place, (_, text) in enumerate(documents()))
        raise OSError("no space left on device")

    monkeypatch.setattr(search, "_TOKENS_PER_RUN", 301)
    with pytest.raises(OSError, match="no space"):
        SearchIndex.write(failing(), tmp_path / "written")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("always_whole", [0, 1 << 16])
@pytest.mark.parametrize("best", [2, 64])
def test_what_is_not_read_makes_no_difference(monkeypatch, always_whole, best):
    """Asked for all documents, the search reads every posting; asked for a few, it must find the first of these."""
    monkeypatch.setattr(search, "_ALWAYS_WHOLE", always_whole)
    monkeypatch.setattr(search, "_BEST", best)
    rng = random.Random(5)
    # Words from common to rare, many equal documents, numbers of words from none to many.
    vocabulary = [f"w{i}" for i in range(400)]
    weights = [1 / (i + 1) for i in range(400)]
    texts = [rng.choices(vocabulary, weights, k=rng.choice((0, 1, 2, 5, 20, 21, 200))) for _ in range(900)]
    index = SearchIndex.build((f"{i % 7}-{i:04}", " ".join(text)) for i, text in enumerate(texts + texts[:300]))
    skipped = 0
    for i in range(400):
        pick = rng.choices(vocabulary, weights if i % 2 else None, k=rng.choice((1, 2, 3, 5, 9)))
        query = " ".join(pick + ["unknown"] * (i % 3 == 0))
        numbers, scores = index.ranking(query, len(index))
        assert len(numbers) == len({j for j, text in enumerate(texts + texts[:300]) if set(text) & set(pick)})
        for k in (1, 2, 3, 10, 63, 64, 65, 300):
            assert index.ranking(query, k) == (numbers[:k], scores[:k])
        skipped += len(index._best_sums(index._weighted(query), 2)[0]) < len(numbers) / 2
    assert skipped > 100  # else this would show nothing


def test_counts_beyond_a_byte():
    index = SearchIndex.build([("A", "tea " * 70_000 + "lamp"), ("B", "tea lamp"), ("C", "lamp " * 300)])
    assert index.search("lamp") == (2, 1, 0)
    assert index.search("tea") == (0, 1)
    assert index.scores("tea") == pytest.approx(
        sorted(plain_scores([("A", "tea " * 70_000 + "lamp"), ("B", "tea lamp"), ("C", "lamp " * 300)], "tea"))[:0:-1]
    )


def test_document_text():
    options = (("Color", ("Red", "Blue")), ("size", ("1", "2")))
    assert (
        document_text("A Lamp", "Lights.", "Bright ", options)
        == "a lamp lights. bright  color: red, blue, and size: 1, 2"
    )
    assert document_text("A", "", "", ()) == "a   "


@pytest.mark.parametrize("corpus", [[], [("A", "")], [("A", "the"), ("B", "  ")]])
def test_empty_indexes(corpus, tmp_path):
    index = SearchIndex.build(corpus)
    index.save(tmp_path / "index")
    for one in (index, SearchIndex.open(tmp_path / "index")):
        assert (len(one), one.search("the lamp")) == (len(corpus), ())


def test_odd_queries():
    index = SearchIndex.build(documents())
    assert index.search("\x00\x1b[2J\ud800 lamp \u202e<script>") == index.search("lamp")
    assert index.search("lamp " * 20_000) == index.search("lamp")
    assert index.search(" ".join(f"w{i}" for i in range(20_000)) + " lamp") == index.search("lamp")
    assert index._rank_cached.cache_info().currsize < 5  # long queries are not kept
    with pytest.raises(InvalidOption, match="k is -1"):
        index.search("lamp", k=-1)


# -- the cache ----------------------------------------------------------------------------------


def test_mapped_equals_built(cache):
    built = SearchIndex.build(documents())
    first = open_or_build("webshop", "three-hundred", iter(documents()))
    again = open_or_build("webshop", "three-hundred", iter(()))  # not read
    copy = pickle.loads(pickle.dumps(again))
    assert first.path == again.path == copy.path == cache / "three-hundred"
    for query in QUERIES:
        assert ranking(built, query) == ranking(first, query) == ranking(again, query) == ranking(copy, query)
    assert ranking(pickle.loads(pickle.dumps(built)), "red lamp") == ranking(built, "red lamp")
    assert not first._arrays.documents.flags.writeable
    assert [path.name for path in cache.iterdir()] == ["three-hundred"]


def damage_by_deleting(folder):
    (folder / "codes.npy").unlink()


def damage_by_cutting(folder):
    os.truncate(folder / "documents.npy", 400)


def damage_by_a_bit(folder):
    content = bytearray((folder / "posting_ends.npy").read_bytes())
    content[-9] ^= 4
    (folder / "posting_ends.npy").write_bytes(content)


def damage_by_zeros(folder):
    (folder / "ranks.npy").write_bytes(bytes((folder / "ranks.npy").stat().st_size))


def damage_by_another_format(folder):
    content = json.loads((folder / "index.json").read_text())
    (folder / "index.json").write_text(json.dumps(content | {"format": 0}))


def damage_by_mixing(folder):
    content = json.loads((folder / "index.json").read_text())
    shutil.copy(folder / "ranks.npy", folder / "documents.npy")
    content["files"]["documents"] = content["files"]["ranks"]
    (folder / "index.json").write_text(json.dumps(content))


def damage_by_nonsense(folder):
    (folder / "index.json").write_text('{"format": 1, "files": []}')


def damage_by_half_a_file(folder):
    (folder / "index.json").write_text('{"format": 1,')


def damage_by_a_file_in_its_place(folder):
    shutil.rmtree(folder)
    folder.write_text("not a folder")


@pytest.mark.parametrize("damage", [value for name, value in list(globals().items()) if name.startswith("damage_by_")])
def test_damage_is_noticed_and_repaired(cache, damage):
    open_or_build("webshop", "key", documents())
    damage(cache / "key")
    with pytest.raises((CorruptData, MissingData)):
        SearchIndex.open(cache / "key")
    repaired = open_or_build("webshop", "key", documents())
    assert ranking(repaired, "red lamp") == ranking(SearchIndex.build(documents()), "red lamp")
    assert SearchIndex.open(cache / "key").search("red lamp") == repaired.search("red lamp")
    assert [path.name for path in cache.iterdir()] == ["key"]


def test_large_files_are_sampled(cache, monkeypatch):
    monkeypatch.setattr(arrays, "_CHECKED_WHOLE", 1000)
    monkeypatch.setattr(arrays, "_SAMPLE", 16)
    open_or_build("webshop", "key", documents())
    os.truncate(cache / "key" / "documents.npy", (cache / "key" / "documents.npy").stat().st_size - 8)
    with open(cache / "key" / "documents.npy", "ab") as file:
        file.write(bytes(8))
    with pytest.raises(CorruptData, match=r"checksum of documents\.npy"):
        SearchIndex.open(cache / "key")


def test_full_disk(cache, monkeypatch):
    def no_space(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(np, "save", no_space)
        with pytest.warns(UserWarning, match="No space left on device"):
            index = open_or_build("webshop", "key", documents())
    assert index.path is None
    assert ranking(index, "red lamp") == ranking(SearchIndex.build(documents()), "red lamp")
    assert not list(cache.iterdir())
    assert open_or_build("webshop", "key", documents()).path == cache / "key"


def test_really_full_disk(cache):
    # /dev/full answers every write as a full disk does.
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    cache.mkdir(parents=True)
    code = (
        "import builtins, warnings\n"
        "from sdar_envs.files import arrays\nfrom sdar_envs.bm25 import index as search\n"
        "real = open\n"
        "def full(path, mode='r', *args, **kwargs):\n"
        "    return real('/dev/full' if 'w' in mode else path, mode, *args, **kwargs)\n"
        "arrays.open = full\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    index = search.open_or_build('webshop', 'key', [('A', 'tea lamp')])\n"
        "assert 'could not be cached' in str(caught[0].message), caught\n"
        "assert index.search('lamp') == (0,)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, env=os.environ | {"SDAR_CACHE_DIR": str(cache.parent)})


def test_cache_that_cannot_be_made(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be cached"):
        index = open_or_build("webshop", "key", documents())
    assert index.search("red lamp") == SearchIndex.build(documents()).search("red lamp")


def test_the_lock_file_of_a_writer_that_was_killed_at_the_end_is_deleted(cache):
    open_or_build("webshop", "key", documents())
    (cache / ".key.lock").touch()
    (cache / ".key=0123456789abcdef").mkdir()
    assert open_or_build("webshop", "key", iter(())).path == cache / "key"
    assert [path.name for path in cache.iterdir()] == ["key"]


def test_interrupted_build_leaves_nothing(cache):
    def interrupted():
        yield from documents(5)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_or_build("webshop", "key", interrupted())
    (cache / ".key=0123456789abcdef").mkdir()  # what a killed process leaves
    (cache / ".key-2=0123456789abcdef").mkdir()  # another index's
    assert open_or_build("webshop", "key", documents()).path == cache / "key"
    assert sorted(path.name for path in cache.iterdir()) == [".key-2=0123456789abcdef", "key"]


BUILD = """
import sys, time
sys.path.insert(0, {folder!r})
from sdar_envs.files import arrays
from sdar_envs.bm25 import index as search
{without_lock}
def documents():
    for i in range(3000):
        yield f"B{{i:05}}", f"lamp number {{i}} " + "tea " * (i % 7)
    time.sleep(0.3)
    print("built", file=sys.stderr)
index = search.open_or_build("webshop", "key", documents())
print(index.path, index.search("tea lamp 17"))
"""


@pytest.mark.parametrize("lock", [True, False])
def test_processes_that_build_at_once(cache, lock):
    without = "" if lock else "import contextlib; arrays.writing_path = lambda *_, wait: contextlib.nullcontext(False)"
    code = BUILD.format(folder=str(Path.cwd()), without_lock=without)
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    answers = [process.communicate(timeout=60) for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    assert answers[0][0] == answers[1][0]
    assert answers[0][0].startswith(str(cache / "key"))
    if lock:
        assert sorted(errors.count("built") for _, errors in answers) == [0, 1]  # the other one waited
    assert [path.name for path in cache.iterdir()] == ["key"]


@pytest.mark.parametrize("key", ["", ".", "..", "../key", "a/b", "a\x00b", ".hidden", "x" * 101, "é"])
def test_keys_are_file_names(cache, key):
    with pytest.raises(InvalidOption, match="the key is"):
        open_or_build("webshop", key, documents())
    assert not cache.exists()


def test_progress_goes_to_standard_error(cache, capsys, monkeypatch):
    monkeypatch.setattr(search, "_SHOW_PROGRESS_FROM", 10)
    open_or_build("webshop", "key", documents())
    open_or_build("webshop", "quiet", documents(), progress=False)
    open_or_build("webshop", "stream", iter(documents()), total=300)
    assert capsys.readouterr().out == ""
