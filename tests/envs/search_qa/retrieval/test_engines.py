"""Engines: what all have in common, and each one's scores against a formula."""

import importlib.util
import math
import sys
from collections import Counter
from types import SimpleNamespace

import numpy as np
import pytest
from helpers.passages import ENCODER, NAMES, bag_of_words, places, write_corpus
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.bm25.analyzer import analyze
from sdar_envs.bm25.index import SearchIndex
from sdar_envs.errors import CorruptData, InvalidOption
from sdar_envs.search_qa.corpus import import_corpus
from sdar_envs.search_qa.retrieval.engines.bm25 import Bm25Retriever
from sdar_envs.search_qa.retrieval.engines.bm25s import Bm25sRetriever
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder, sentence_encoder
from sdar_envs.search_qa.retrieval.engines.faiss import FaissRetriever
from sdar_envs.search_qa.retrieval.engines.tantivy import TantivyRetriever
from sdar_envs.search_qa.retrieval.index import ENGINES, build_index, open_index
from sdar_envs.search_qa.retrieval.retriever import Passage

PACKAGES = {"bm25s": "bm25s", "tantivy": "tantivy", "faiss": "faiss"}
WORD_ENGINES = tuple(name for name in ENGINES if name != "faiss")
QUERIES = [
    "river of the town of Kaldorf",
    "Torstan",
    "mayor",
    "population town",
    "Ada Ostwicker",
    "1100 1101 1102",
    "founding year of Mirmere and of Venwick",
]


def built(passages, engine, folder, **options):
    """Index passages with an engine, or skip."""
    if engine in PACKAGES:
        pytest.importorskip(PACKAGES[engine], reason=f"the package {PACKAGES[engine]} is not installed")
    if engine == "faiss":
        options = {"encoder": ENCODER, **options}
    source = write_corpus(folder / "corpus.jsonl", passages)
    build_index(source, folder / engine, engine, progress=False, **options)
    return open_index(folder / engine, encoder=options.get("encoder"))


@pytest.fixture(scope="module", params=ENGINES)
def engine(request):
    return request.param


@pytest.fixture(scope="module")
def retriever(engine, tmp_path_factory):
    opened = built(places(), engine, tmp_path_factory.mktemp(engine))
    if engine != "faiss":
        yield opened
        return
    import faiss

    # Its threads wait for work by spinning: for a handful of passages, that is all they do.
    threads = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(1)
    yield opened
    faiss.omp_set_num_threads(threads)


def ids(hits):
    return [hit.passage.id for hit in hits]


# -- what all have in common --------------------------------------------------------------------


def test_easy_queries_find_the_same_everywhere(retriever):
    queries = [f"{relation} of {name}" for name in NAMES for relation in ("river", "population", "mayor")]
    found = [ids(hits) for hits in retriever.search(queries, 1)]
    assert found == [[f"{name}-{relation}"] for name in NAMES for relation in ("river", "population", "mayor")]


def test_passages_come_whole_and_best_first(engine, retriever):
    corpus = places()
    for query, hits in zip(QUERIES, retriever.search(QUERIES, 7), strict=True):
        assert 0 < len(hits) <= 7, query
        assert all(hit.passage in corpus for hit in hits)
        keys = [(-hit.score, corpus.index(hit.passage)) for hit in hits]
        assert keys == sorted(set(keys))
        assert all(type(hit.score) is float for hit in hits)
        assert engine == "faiss" or all(hit.score > 0 for hit in hits)


@pytest.mark.parametrize("query", ["", " \n\t", "\x1f"])
def test_blank_queries_find_nothing(retriever, query):
    assert retriever.search([query, "Kaldorf", query], 3)[::2] == [(), ()]


@pytest.mark.parametrize("query", ["the", "of the and OF", "?!", "\x00", "\ud800", "unheard unseen", "___", "\u200b"])
def test_queries_without_a_word_that_counts(engine, retriever, query):
    assert len(retriever.search([query], 3)[0]) == (3 if engine == "faiss" else 0)


def test_odd_queries(retriever):
    plain, odd = retriever.search(["river of Kaldorf", "river \x00 of\udfff \ud800 Kaldorf \x1b[2J"], 1)
    assert ids(plain) == ids(odd) == ["Kaldorf-river"]
    syntax = 'river AND -Kaldorf^2 "Kaldorf~ (town:* OR [a TO z'
    assert len(retriever.search([syntax], 3)[0]) == 3


@pytest.mark.parametrize(
    "query", ["river Kaldorf " * 8_000, "x" * 100_000, "\u00e9" * 100_000, " ".join(f"w{i}" for i in range(17_000))]
)
def test_queries_of_100_000_characters(engine, retriever, query):
    hits = retriever.search([query], 2)[0]
    if query.startswith("river"):
        assert ids(hits)[0] == "Kaldorf-river"
    else:
        assert len(hits) == (2 if engine == "faiss" else 0)


@pytest.mark.parametrize("k", [0, -1, 1.0, True, "3", None])
def test_k_is_a_whole_number_from_one(retriever, k):
    with pytest.raises(InvalidOption, match="k is "):
        retriever.search(["river"], k)


@pytest.mark.parametrize("queries", ["river of Kaldorf", [None], [b"river"], ["river", 3]])
def test_queries_are_a_list_of_texts(retriever, queries):
    with pytest.raises(InvalidOption, match="wanted a list of texts"):
        retriever.search(queries, 3)


def test_no_queries_and_large_k(retriever):
    assert retriever.search([], 3) == []
    everything = retriever.search(["town"], 10**12)[0]
    assert sorted(ids(everything)) == sorted(passage.id for passage in places())


words = st.sampled_from(["river", "mayor", "town", "Kaldorf", "Torstan", "Ada", "1100", "year", "the", "of", "unheard"])
queries = st.lists(words, max_size=6).map(" ".join)


@settings(deadline=None)
@given(st.lists(queries, max_size=8), st.integers(1, 9))
def test_alone_or_together_in_any_order_for_any_k(retriever, batch, k):
    together = retriever.search(batch, k)
    assert together == [retriever.search([query], k)[0] for query in batch]
    assert together[::-1] == retriever.search(batch[::-1], k)
    assert together == [hits[:k] for hits in retriever.search(batch, k + 5)]


def test_large_batches_give_the_same(retriever):
    # faiss multiplies matrices from 20 queries on.
    batch = QUERIES * 40
    assert retriever.search(batch, 5) == [retriever.search([query], 5)[0] for query in QUERIES] * 40


def test_equal_passages_come_in_the_order_of_the_corpus(engine, tmp_path):
    names = [f"{(7 * i) % 997:04}" for i in range(997)]
    passages = [Passage(name, '"Town"\nA town of no name.') for name in names]
    passages[500] = Passage("best", '"Town"\nTown town.')
    retriever = built(passages, engine, tmp_path)
    expected = ["best", *(name for i, name in enumerate(names) if i != 500)]
    for k in (1, 2, 3, 20, 700, 996, 997, 5000):
        assert ids(retriever.search(["town"], k)[0]) == expected[:k], k
        equal = [name for name in ids(retriever.search(["town town name of unheard"], k)[0]) if name != "best"]
        assert equal == expected[1 : len(equal) + 1], k
        assert k - len(equal) in (0, 1) or k == 5000


def test_fingerprints(engine, retriever, tmp_path):
    again = built(places(), engine, tmp_path)
    assert again.fingerprint == retriever.fingerprint
    (tmp_path / "other").mkdir()
    other = built(places()[:-1], engine, tmp_path / "other")
    assert other.fingerprint != retriever.fingerprint
    assert retriever.fingerprint.startswith(engine)


def test_passages_of_stop_words_alone(engine, tmp_path):
    retriever = built([Passage("0", "the"), Passage("1", "of ?")], engine, tmp_path)
    assert len(retriever.search(["the town"], 3)[0]) == (2 if engine == "faiss" else 0)


def test_a_corpus_of_one(engine, tmp_path):
    retriever = built([Passage("only", '"Kaldorf"\nA town.')], engine, tmp_path)
    assert ids(retriever.search(["Kaldorf town"], 3)[0]) == ["only"]


@pytest.mark.parametrize("name", sorted(PACKAGES))
def test_a_missing_package_is_named(name, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, PACKAGES[name], None)
    source = write_corpus(tmp_path / "corpus.jsonl", places())
    with pytest.raises(ModuleNotFoundError, match=rf"pip install 'sdar-envs\[{name}\]'"):
        build_index(source, tmp_path / "out", name, encoder=ENCODER if name == "faiss" else None)
    assert [path.name for path in tmp_path.iterdir()] == ["corpus.jsonl"]


# -- scores -------------------------------------------------------------------------------------


def bm25(query, k1, b, factor):
    """BM25 as the textbook has it; `factor` is k1 + 1 where a variant keeps it in the numerator."""
    texts = [Counter(analyze(passage.contents)) for passage in places()]
    average = sum(text.total() for text in texts) / len(texts)
    scores = {}
    for passage, text in zip(places(), texts, strict=True):
        score = 0.0
        for word, count in Counter(analyze(query)).items():
            frequency = sum(word in other for other in texts)
            idf = math.log(1 + (len(texts) - frequency + 0.5) / (frequency + 0.5))
            score += count * idf * text[word] * factor / (text[word] + k1 * (1 - b + b * text.total() / average))
        if score:
            scores[passage.id] = score
    return scores


# No passage has 40 words, so that Lucene and tantivy count them exactly.
@pytest.mark.parametrize(
    ("name", "parameters"), [("bm25", (0.9, 0.4, 1)), ("bm25s", (0.9, 0.4, 1)), ("tantivy", (1.2, 0.75, 2.2))]
)
def test_scores_are_the_textbooks(name, parameters, tmp_path):
    retriever = built(places(), name, tmp_path)
    for query in [*QUERIES, "river river Kaldorf"]:
        found = {hit.passage.id: hit.score for hit in retriever.search([query], 80)[0]}
        assert found == pytest.approx(bm25(query, *parameters), rel=1e-5)


def test_bm25_is_the_shared_index():
    corpus = places()
    index = SearchIndex.build((f"{i:03}", passage.contents) for i, passage in enumerate(corpus))
    retriever = Bm25Retriever(index, corpus, "places")
    assert retriever.fingerprint == "places"
    for query, hits in zip(QUERIES, retriever.search(QUERIES, 10), strict=True):
        assert [corpus.index(hit.passage) for hit in hits] == list(index.search(query, 10))
        assert [hit.score for hit in hits] == list(index.scores(query, 10))


def test_bm25s_with_and_without_its_compiler(tmp_path):
    if importlib.util.find_spec("numba") is None:
        pytest.skip("the package numba is not installed")
    retriever = built(places(), "bm25s", tmp_path)
    assert retriever._scorer.backend == "numba"
    import bm25s

    plain = Bm25sRetriever(bm25s.BM25.load(tmp_path / "bm25s" / "engine", backend="numpy"), places(), "")
    assert retriever.search(QUERIES, 10) == plain.search(QUERIES, 10)


# -- vectors ------------------------------------------------------------------------------------


def test_faiss_finds_the_largest_products(tmp_path):
    retriever = built(places(), "faiss", tmp_path)
    products = bag_of_words(QUERIES).astype(float) @ bag_of_words([passage.contents for passage in places()]).T
    for row, hits in zip(products, retriever.search(QUERIES, 80), strict=True):
        assert [hit.score for hit in hits] == pytest.approx(sorted(row.tolist(), reverse=True), abs=1e-6)


@pytest.mark.parametrize("factory", ["HNSW16", "IVF4,Flat", "IVF4,SQ8", "SQ8"])
def test_other_kinds_of_index(factory, tmp_path):
    retriever = built(places(), "faiss", tmp_path, factory=factory)
    found = retriever.search([f"mayor of {name}" for name in NAMES], 1)
    assert [ids(hits) for hits in found] == [[f"{name}-mayor"] for name in NAMES]
    assert f"factory={factory}" in retriever.fingerprint


@pytest.mark.parametrize("factory", ["Flut", "", "IVF5000,Flat", "PQ7", "IDMap,Flat"])
def test_kinds_of_index_that_cannot_be(factory, tmp_path):
    with pytest.raises(InvalidOption, match=f"cannot make the index '{factory}' of 80 vectors of 625 numbers"):
        built(places(), "faiss", tmp_path, factory=factory)


def test_an_encoder_that_fails_is_not_blamed_on_faiss(tmp_path):
    def encode(texts):
        if len(texts) > 1:
            raise RuntimeError("out of memory")
        return bag_of_words(texts)

    for factory in ("Flat", "IVF4,Flat"):
        with pytest.raises(RuntimeError, match=r"^out of memory$"):
            built(places(), "faiss", tmp_path, encoder=Encoder("tired", encode), factory=factory)


def test_prefixes_go_to_the_encoder(tmp_path):
    seen = []

    def encode(texts):
        seen.extend(texts)
        return np.ones((len(texts), 2))

    encoder = Encoder("ones", encode, query_prefix="query: ", passage_prefix="passage: ")
    retriever = built(places(), "faiss", tmp_path, encoder=encoder)
    assert set(seen) == {f"passage: {passage.contents}" for passage in places()}
    seen.clear()
    retriever.search(["a\ud800b", "", "c"], 1)
    assert seen == ["query: a?b", "query: c"]


@pytest.mark.parametrize(
    "made",
    [np.ones(2), np.ones((3, 2)), np.full((2, 2), np.nan), np.full((2, 2), np.inf)],
    ids=["flat", "too many", "nan", "infinite"],
)
def test_encoders_that_make_something_else(made):
    with pytest.raises(InvalidOption, match=r"the encoder 'odd' made an array of shape \(.* of 2 texts"):
        Encoder("odd", lambda texts: made).queries(["a", "b"])


def test_an_encoder_of_another_size(tmp_path):
    built(places(), "faiss", tmp_path)
    shorter = Encoder(ENCODER.name, lambda texts: bag_of_words(texts)[:, :5])
    with pytest.raises(InvalidOption, match="vectors of 5 numbers, the index holds vectors of 625"):
        open_index(tmp_path / "faiss", encoder=shorter).search(["river"], 1)


def test_an_encoder_by_name(monkeypatch):
    class SentenceTransformer:
        def __init__(self, name, device=None, trust_remote_code=None, model_kwargs=None):
            assert (name, device) == ("some/model", "cpu")
            assert (trust_remote_code, model_kwargs) == (False, {"use_safetensors": True})

        def encode(self, texts, *, batch_size, convert_to_numpy, normalize_embeddings, show_progress_bar):
            assert (batch_size, convert_to_numpy, normalize_embeddings, show_progress_bar) == (8, True, True, False)
            return np.array(
                [[float(text.startswith("query: ")), float(text.startswith("passage: "))] for text in texts]
            )

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=SentenceTransformer))
    encoder = sentence_encoder("some/model", device="cpu", batch_size=8)
    assert encoder.name == "some/model"
    assert encoder.queries(["a", "b"]).tolist() == [[1, 0], [1, 0]]
    assert encoder.passages(["a"]).tolist() == [[0, 1]]
    bare = sentence_encoder("some/model", query_prefix="", passage_prefix="", device="cpu", batch_size=8)
    assert bare.passages(["a"]).tolist() == bare.queries(["a"]).tolist() == [[0, 0]]


@pytest.mark.parametrize(
    ("error", "wanted"),
    [
        (
            ValueError("It contains custom code.\nPlease pass trust_remote_code=True"),
            r"code of its own.*choose another",
        ),
        (OSError("no file named model.safetensors. Please do not set `use_safetensors=True`."), "weights are pickled"),
        (OSError("no such\nmodel"), "OSError: no such model"),
    ],
)
def test_an_encoder_that_cannot_be_loaded_is_one_line(monkeypatch, error, wanted):
    def load(*_, **__):
        raise error

    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=load))
    with pytest.raises(InvalidOption, match=rf"^the encoder 'some/model' cannot be loaded: .*{wanted}"):
        sentence_encoder("some/model")


def test_an_encoder_with_pickled_weights_is_not_loaded(monkeypatch, tmp_path):
    loads = []
    monkeypatch.setitem(sys.modules, "sentence_transformers", SimpleNamespace(SentenceTransformer=loads.append))
    (tmp_path / "config.json").touch()
    (tmp_path / "pytorch_model.bin").touch()
    with pytest.raises(InvalidOption, match=r"its weights are pickled \(pytorch_model\.bin\)"):
        sentence_encoder(str(tmp_path))
    assert loads == []


def test_an_encoder_by_name_asks_for_its_package(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentence_transformers", None)
    with pytest.raises(ModuleNotFoundError, match=r"sdar-envs\[embedding\]"):
        sentence_encoder("intfloat/e5-base-v2")


@pytest.mark.parametrize("engine_class", [Bm25Retriever, Bm25sRetriever, TantivyRetriever, FaissRetriever])
def test_an_index_of_another_corpus(engine_class, tmp_path):
    name = {Bm25Retriever: "bm25", Bm25sRetriever: "bm25s", TantivyRetriever: "tantivy", FaissRetriever: "faiss"}
    built(places(), name[engine_class], tmp_path)
    shorter = import_corpus(write_corpus(tmp_path / "shorter.jsonl", places()[:9]), tmp_path / "shorter")
    options = {"encoder": ENCODER} if engine_class is FaissRetriever else {}
    with pytest.raises(CorruptData, match="the index is of 80 passages, the corpus has 9"):
        engine_class.open(tmp_path / name[engine_class] / "engine", shorter, "", **options)
