"""Dense retrieval as people have it: vectors in files, foreign faiss indexes, hybrids, recall."""

import json
import pickle

import numpy as np
import pytest
from helpers.passages import ENCODER, bag_of_words, places, write_corpus

from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.search_qa.retrieval.engines import vectors as module
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.engines.hybrid import HybridRetriever
from sdar_envs.search_qa.retrieval.engines.vectors import encode_corpus, exact_places, open_vectors
from sdar_envs.search_qa.retrieval.index import build_index, fuse_indexes, open_index
from sdar_envs.search_qa.retrieval.recall import measure_recall

QUERIES = ["river of Kaldorf", "mayor Torstan", "1100", ""]
ROWS = bag_of_words([passage.contents for passage in places()])


@pytest.fixture(autouse=True)
def faiss():
    package = pytest.importorskip("faiss", reason="the package faiss is not installed")
    threads = package.omp_get_max_threads()
    package.omp_set_num_threads(1)
    yield package
    package.omp_set_num_threads(threads)


@pytest.fixture
def source(tmp_path):
    return write_corpus(tmp_path / "corpus.jsonl", places())


@pytest.fixture
def saved(tmp_path):
    np.save(tmp_path / "rows.npy", ROWS)
    return tmp_path / "rows.npy"


def written(faiss, path, factory="Flat", metric=None, rows=ROWS):
    index = faiss.index_factory(
        rows.shape[1], factory, faiss.METRIC_INNER_PRODUCT if metric is None else getattr(faiss, metric)
    )
    index.train(rows)
    index.add(rows)
    faiss.write_index(index, str(path))
    return path


def ids(found):
    return [[hit.passage.id for hit in hits] for hits in found]


# -- vectors in a file --------------------------------------------------------------------------


def test_vectors_of_a_file_find_what_the_encoder_finds(source, saved, tmp_path):
    build_index(source, tmp_path / "encoded", "faiss", encoder=ENCODER)
    build_index(source, tmp_path / "stored", "faiss", encoder=ENCODER, vectors=saved)
    encoded, stored = (open_index(tmp_path / name, encoder=ENCODER) for name in ("encoded", "stored"))
    assert stored.search(QUERIES, 9) == encoded.search(QUERIES, 9)
    assert stored.fingerprint != encoded.fingerprint
    assert pickle.loads(pickle.dumps(stored)).search(QUERIES, 9) == encoded.search(QUERIES, 9)


def test_vectors_that_do_not_fit(source, saved, tmp_path):
    def refused(error, match, **options):
        with pytest.raises(error, match=match):
            build_index(source, tmp_path / "out", "faiss", **{"encoder": ENCODER, "vectors": saved, **options})
        assert not (tmp_path / "out").exists()

    np.save(tmp_path / "short.npy", ROWS[:79])
    np.save(tmp_path / "shuffled.npy", np.roll(ROWS, 7, axis=0))
    np.save(tmp_path / "flat.npy", ROWS[0])
    np.save(tmp_path / "pickled.npy", np.array([{"a": 1}]), allow_pickle=True)
    (tmp_path / "cut.npy").write_bytes(saved.read_bytes()[:999])
    refused(InvalidOption, "holds 79 vectors, the corpus has 80 passages", vectors=tmp_path / "short.npy")
    refused(InvalidOption, "of 16 passages have there the vector", vectors=tmp_path / "shuffled.npy")
    refused(InvalidOption, "vectors of 9 numbers", encoder=Encoder("short", lambda texts: bag_of_words(texts)[:, :9]))
    refused(CorruptData, r"of shape \(625,\); wanted one row per passage", vectors=tmp_path / "flat.npy")
    refused(CorruptData, "is no .npy file of vectors", vectors=tmp_path / "pickled.npy")
    refused(CorruptData, "is no .npy file of vectors", vectors=tmp_path / "cut.npy")
    refused(MissingData, "there is no file", vectors=tmp_path / "none.npy")
    refused(InvalidOption, "leave out factory and vectors", faiss_index=saved)
    refused(InvalidOption, "link is for an index that is there already", link=True)
    refused(InvalidOption, "nprobe is for IVF indexes", nprobe=4)
    refused(InvalidOption, "nprobe is 0; wanted a whole number from 1", nprobe=0)
    with pytest.raises(InvalidOption, match=r"\(vectors\) are for the engine faiss"):
        build_index(source, tmp_path / "out", vectors=saved)


@pytest.mark.parametrize("dtype", module.DTYPES)
def test_encoding_goes_on_where_it_stopped(source, dtype, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ENCODED_AT_ONCE", 6)
    monkeypatch.setattr(module, "_SAVED_EVERY", 3)
    out, asked = tmp_path / "rows.npy", []

    def encode(texts):
        if len(asked) == 8:
            raise ConnectionError("the power failed")
        asked.append(len(texts))
        return bag_of_words(texts)

    encoder = Encoder("bag-of-words", encode)
    with pytest.raises(ConnectionError):
        encode_corpus(source, out, encoder, dtype=dtype)
    assert not out.exists()
    for other in (Encoder("other", encode), Encoder("bag-of-words", encode, passage_prefix="passage: ")):
        with pytest.raises(InvalidOption, match="was begun with another encoder"):
            encode_corpus(source, out, other, dtype=dtype)
    # Eight batches of six were written, and six of them are known to be on the disk.
    again = []
    encoder = Encoder("bag-of-words", lambda texts: again.append(texts) or bag_of_words(texts))
    assert encode_corpus(source, out, encoder, dtype=dtype) == 80
    assert [text for batch in again for text in batch] == [passage.contents for passage in places()[36:]]
    assert open_vectors(out).dtype == dtype
    assert np.array_equal(open_vectors(out), ROWS.astype(dtype))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["corpus.jsonl", "rows.npy"]
    with pytest.raises(InvalidOption, match="exists: name another file"):
        encode_corpus(source, out, encoder)


def test_another_corpus_does_not_go_on(source, tmp_path, monkeypatch):
    monkeypatch.setattr(module, "_ENCODED_AT_ONCE", 6)
    monkeypatch.setattr(module, "_SAVED_EVERY", 1)

    def interrupt(done):
        if done >= 12:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        encode_corpus(source, tmp_path / "rows.npy", ENCODER, progress=interrupt)
    write_corpus(source, places()[1:])
    with pytest.raises(InvalidOption, match="was begun with another corpus"):
        encode_corpus(source, tmp_path / "rows.npy", ENCODER)


def test_exact_search_in_blocks(monkeypatch):
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 7)
    # Whole numbers, which no order of adding rounds.
    rows = np.repeat(ROWS[:20] > 0, 2, axis=0).astype(np.float32)
    products = rows[:5] @ rows.T
    expected = [sorted(range(40), key=lambda place: (-row[place], place))[:6] for row in products]
    assert exact_places(rows, rows[:5], 6).tolist() == expected
    assert exact_places(rows[:3], rows[:5], 6).shape == (5, 3)


# -- indexes that faiss has written --------------------------------------------------------------


@pytest.mark.parametrize("link", [False, True])
def test_a_foreign_index_is_taken_over(source, faiss, link, tmp_path):
    file = written(faiss, tmp_path / "e5_Flat.index")
    build_index(source, tmp_path / "own", "faiss", encoder=ENCODER)
    build_index(source, tmp_path / "out", "faiss", encoder=ENCODER, faiss_index=file, link=link)
    found = open_index(tmp_path / "out", encoder=ENCODER).search(QUERIES, 9)
    assert found == open_index(tmp_path / "own", encoder=ENCODER).search(QUERIES, 9)
    assert file.stat().st_nlink == 1 + link


def test_a_foreign_index_that_does_not_fit(source, faiss, tmp_path):
    def refused(error, match, file):
        with pytest.raises(error, match=match):
            build_index(source, tmp_path / "out", "faiss", encoder=ENCODER, faiss_index=file)

    refused(InvalidOption, "does not rank by inner product", written(faiss, tmp_path / "l2", metric="METRIC_L2"))
    refused(InvalidOption, "is an index of 79 vectors", written(faiss, tmp_path / "short", rows=ROWS[:79]))
    refused(InvalidOption, "does not fit", written(faiss, tmp_path / "shuffled", rows=np.roll(ROWS, 7, axis=0)))
    (tmp_path / "nonsense").write_bytes(b"nonsense")
    refused(CorruptData, "cannot be used as an index of faiss", tmp_path / "nonsense")


# -- settings and recall -------------------------------------------------------------------------


@pytest.mark.parametrize(("factory", "name"), [("IVF16,Flat", "nprobe"), ("HNSW4", "ef_search")])
def test_settings_of_a_search(source, saved, factory, name, tmp_path):
    build_index(source, tmp_path / "out", "faiss", encoder=ENCODER, factory=factory, vectors=saved, **{name: 1})
    narrow, wide = (open_index(tmp_path / "out", encoder=ENCODER, **given) for given in ({}, {name: 80}))
    assert f"{name}=1," in narrow.fingerprint
    assert f"{name}=80," in wide.fingerprint
    queries = [passage.title for passage in places()]
    at_narrow, at_wide = (measure_recall(each, queries, 10, open_vectors(saved)) for each in (narrow, wide))
    assert at_narrow.recall < at_wide.recall
    if name == "nprobe":
        assert at_wide.recall == 1  # all cells are looked into
    assert at_wide.queries == 80
    other = {"nprobe": "ef_search", "ef_search": "nprobe"}[name]
    with pytest.raises(InvalidOption, match=f"{other} is for"):
        open_index(tmp_path / "out", encoder=ENCODER, **{other: 3})


def test_what_recall_cannot_be_measured_of(source, saved, tmp_path):
    build_index(source, tmp_path / "words")
    with pytest.raises(InvalidOption, match="an index of words"):
        measure_recall(open_index(tmp_path / "words"), ["river"], 3, ROWS)
    build_index(source, tmp_path / "out", "faiss", encoder=ENCODER, vectors=saved)
    with pytest.raises(InvalidOption, match="79 vectors"):
        measure_recall(open_index(tmp_path / "out", encoder=ENCODER), ["river"], 3, ROWS[:79])


# -- hybrids --------------------------------------------------------------------------------------


def test_a_hybrid_adds_reciprocal_ranks(source, tmp_path):
    build_index(source, tmp_path / "words")
    build_index(source, tmp_path / "dense", "faiss", encoder=ENCODER)
    parts = [tmp_path / "words", tmp_path / "dense"]
    hybrid = fuse_indexes(parts, tmp_path / "both", encoder=ENCODER, constant=7, depth=12)
    words, dense = open_index(parts[0]), open_index(parts[1], encoder=ENCODER)
    order = [passage.id for passage in places()]
    for query, hits in zip(QUERIES, hybrid.search(QUERIES, 5), strict=True):
        scores = {}
        for found in (words.search([query], 12)[0], dense.search([query], 12)[0]):
            for rank, hit in enumerate(found, 1):
                scores[hit.passage.id] = scores.get(hit.passage.id, 0) + 1 / (7 + rank)
        expected = sorted(scores, key=lambda name: (-scores[name], order.index(name)))[:5]
        assert [hit.passage.id for hit in hits] == expected
        assert [hit.score for hit in hits] == [scores[name] for name in expected]
    reopened = open_index(tmp_path / "both", encoder=ENCODER)
    assert isinstance(reopened, HybridRetriever)
    assert reopened.search(QUERIES, 5) == hybrid.search(QUERIES, 5)
    assert pickle.loads(pickle.dumps(reopened)).search(QUERIES, 5) == hybrid.search(QUERIES, 5)
    assert reopened.fingerprint == hybrid.fingerprint != words.fingerprint
    # A folder of all three can be moved.
    (tmp_path / "moved").mkdir()
    for name in ("words", "dense", "both"):
        (tmp_path / name).rename(tmp_path / "moved" / name)
    assert open_index(tmp_path / "moved" / "both", encoder=ENCODER).search(QUERIES, 5) == hybrid.search(QUERIES, 5)


def test_what_cannot_be_merged(source, tmp_path):
    build_index(source, tmp_path / "words")
    words = tmp_path / "words"
    write_corpus(source, places()[:9])
    build_index(source, tmp_path / "other")
    with pytest.raises(InvalidOption, match="are of different corpora"):
        fuse_indexes([words, tmp_path / "other"], tmp_path / "both")
    with pytest.raises(MissingData, match=r"there is no index .*none"):
        fuse_indexes([words, tmp_path / "none"], tmp_path / "both")
    for options in ({"constant": 0}, {"depth": 0}):
        with pytest.raises(InvalidOption, match="wanted a whole number from 1"):
            fuse_indexes([words, words], tmp_path / "both", **options)
    for few in ([], [words]):
        with pytest.raises(InvalidOption, match="wanted two or more"):
            fuse_indexes(few, tmp_path / "both")
    assert not (tmp_path / "both").exists()
    fuse_indexes([words, words], tmp_path / "both")
    with pytest.raises(InvalidOption, match="alone takes an encoder"):
        open_index(tmp_path / "both", encoder=ENCODER)
    with pytest.raises(InvalidOption, match="exists"):
        fuse_indexes([words, words], tmp_path / "both")
    build_index(source, words, overwrite=True)
    with pytest.raises(CorruptData, match="replaced by those of another corpus"):
        open_index(tmp_path / "both")
    content = json.loads((tmp_path / "both" / "index.json").read_text())
    (tmp_path / "both" / "index.json").write_text(json.dumps({**content, "facts": {}}))
    with pytest.raises(CorruptData, match="cannot be used as an index"):
        open_index(tmp_path / "both")
