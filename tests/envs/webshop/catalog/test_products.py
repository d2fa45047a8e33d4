"""Packed catalogues: equal to what was read, whether in memory or from the cache, whatever happens to the cache."""

import errno
import os
import shutil
from pathlib import Path

import numpy as np
import pytest

from sdar_envs.bm25.index import SearchIndex
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.webshop import goals as goals_module
from sdar_envs.webshop import shop as shop_module
from sdar_envs.webshop.catalog import embedded, loading
from sdar_envs.webshop.catalog.embedded import EmbeddedNouns
from sdar_envs.webshop.catalog.generator import generate_catalog
from sdar_envs.webshop.catalog.loading import CatalogFiles, build_catalog, load_catalog, open_catalog
from sdar_envs.webshop.catalog.products import Catalog, CatalogPacker
from sdar_envs.webshop.goals import Goals
from sdar_envs.webshop.nouns import KnownNouns
from sdar_envs.webshop.oracle import plan
from sdar_envs.webshop.reachability import count_reachable
from sdar_envs.webshop.session import Controls, Session
from sdar_envs.webshop.shop import Shop, open_shop

DATA = Path(__file__).parents[1] / "data"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "webshop"


@pytest.fixture
def files(tmp_path):
    folder = tmp_path / "official"
    folder.mkdir()
    for path in (DATA / "catalogue_edge200").iterdir():
        shutil.copyfile(path, folder / path.name)
    return CatalogFiles.find(str(folder))


def everything(catalog):
    """All that can be asked of a catalogue."""
    numbers = range(len(catalog))
    return (
        list(catalog.products),
        list(catalog.indexed),
        list(catalog.titles),
        [catalog.human(number) for number in numbers],
        [catalog.in_category(name) for name in ("beauty", "fashion", "nothing")],
        [catalog.with_query(product.query) for product in catalog.products[:50]],
        list(catalog.documents()),
        (catalog.index_key, catalog.fingerprint),
        *(
            [*Goals(catalog, kind, seed=seed, shuffle_seed=seed), *Goals(catalog, kind, seed=seed).prices]
            for kind in ("synthetic", *(["human"] if catalog.human_counts.any() else []))
            for seed in (233, 5)
        ),
    )


@pytest.mark.parametrize("source", ["edge200", "plain1000", "embedded", "cut"])
def test_what_is_read_equals_what_was_given(source, cache, tmp_path, monkeypatch):
    given = []
    add = CatalogPacker.add
    monkeypatch.setattr(CatalogPacker, "add", lambda packer, product: (given.append(product), add(packer, product))[1])
    if source == "embedded":
        made = generate_catalog()
        built = build_catalog(made.products, made.attributes, made.human_instructions)
    else:
        folder = DATA / f"catalogue_{'edge200' if source == 'cut' else source}"
        found = CatalogFiles.find(str(folder))
        built = load_catalog(found, human=found.human is not None, num_products={"cut": 100}.get(source))
    built.save(tmp_path / "kept")
    opened = Catalog.open(tmp_path / "kept")
    assert list(built.indexed) == given
    assert built.products[:] == given[: len(built)]
    assert everything(opened) == everything(built)
    for product in (opened.products[0], opened.products[np.int64(-1)]):
        assert product == given[: len(opened)][product.number]
    assert [type(price) for price in Goals(opened).prices[:2]] == [float, float]
    with pytest.raises(IndexError, match="there are"):
        opened.products[len(opened)]


def test_surrogates_and_control_characters_survive(tmp_path):
    text = '\ude00\ud83d \x00\x1f\x7f\u2028 é 漢字 🙂 "\\'
    record = {
        "asin": "B000000001",
        "name": text,
        "full_description": text,
        "small_description": [text],
        "customization_options": {text: [{"value": text}]},
        "category": text,
        "query": text,
        "product_category": text,
        "pricing": f"${'9' * 400}",
    }
    catalog = build_catalog([record], {"B000000001": {"attributes": [text]}})
    catalog.save(tmp_path / "kept")
    (product,) = Catalog.open(tmp_path / "kept").products
    assert (product.title, product.description, product.bullets) == (text, text, (text,))
    assert product.prices == (float("inf"),)
    assert Catalog.open(tmp_path / "kept").in_category(text) == (0,)


def test_the_second_time_no_file_is_read(cache, files, monkeypatch):
    first = open_catalog(files, human=True)
    monkeypatch.setattr(loading, "load_catalog", None)
    assert (
        everything(open_catalog(files, human=True)) == everything(first) == everything(load_catalog(files, human=True))
    )
    with pytest.raises(TypeError):
        open_catalog(files)  # without human instructions: another catalogue


@pytest.mark.parametrize("which", ["products", "attributes", "human"])
def test_files_that_changed_are_read_again(cache, files, monkeypatch, which):
    open_catalog(files, human=True)
    path = getattr(files, which)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    monkeypatch.setattr(loading, "load_catalog", None)
    with pytest.raises(TypeError):
        open_catalog(files, human=True)
    path.unlink()
    with pytest.raises(MissingData, match=path.name):
        open_catalog(files, human=True)


def test_files_that_change_while_they_are_read(cache, files, monkeypatch):
    def load(*args, **kwargs):
        os.utime(files.attributes, ns=(0, 0))
        return load_catalog(*args, **kwargs)

    monkeypatch.setattr(loading, "load_catalog", load)
    with pytest.warns(UserWarning, match="changed while they were read"):
        assert len(open_catalog(files)) == 185
    assert not list(cache.glob("catalog-*"))


def damage_by_deleting(folder):
    (folder / "ends.npy").unlink()


def damage_by_cutting(folder):
    os.truncate(folder / "texts.npy", 40_000)


def damage_by_a_bit(folder):
    content = bytearray((folder / "texts.npy").read_bytes())
    content[5000] ^= 1
    (folder / "texts.npy").write_bytes(content)


def damage_by_half_a_file(folder):
    (folder / "index.json").write_text('{"format": 1,')


def damage_by_missing_facts(folder):
    content = (folder / "index.json").read_text()
    (folder / "index.json").write_text(content.replace('"sold"', '"gold"'))


def damage_by_a_missing_array(folder):
    content = (folder / "index.json").read_text()
    (folder / "index.json").write_text(content.replace('"prices"', '"price"'))


def damage_by_other_facts(folder):
    content = (folder / "index.json").read_text()
    (folder / "index.json").write_text(content.replace('"sold": 185', '"sold": 186'))


@pytest.mark.parametrize("damage", [value for name, value in list(globals().items()) if name.startswith("damage_by_")])
def test_damage_is_noticed_and_repaired(cache, files, damage):
    open_catalog(files)
    (folder,) = cache.glob("catalog-*")
    damage(folder)
    with pytest.raises(CorruptData, match="delete it and make it again"):
        Catalog.open(folder)
    expected = everything(load_catalog(files))
    assert everything(open_catalog(files)) == expected == everything(Catalog.open(folder))


def test_damage_that_opening_cannot_see(tmp_path, files):
    catalog = load_catalog(files)
    texts, ends = catalog._arrays.texts.copy(), catalog._arrays.ends
    texts[ends[3] + 1] = 0
    texts[ends[4] : ends[5]] = np.frombuffer(b"[" + b" " * int(ends[5] - ends[4] - 2) + b"]", dtype=np.uint8)
    Catalog(catalog._arrays._replace(texts=texts), catalog._facts).save(tmp_path / "kept")
    opened = Catalog.open(tmp_path / "kept")
    assert opened.products[2] == catalog.products[2]
    for number in (3, 4):
        with pytest.raises(CorruptData, match=f"product {number} of the catalogue in {tmp_path / 'kept'}"):
            opened.products[number]


def test_full_disk(cache, files, monkeypatch):
    def no_space(*_args, **_kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "save", no_space)
    with pytest.warns(UserWarning, match="the catalogue could not be cached"):
        catalog = open_catalog(files)
    assert everything(catalog) == everything(load_catalog(files))
    assert not [path for path in cache.iterdir() if path.is_dir()]


def test_cache_that_cannot_be_made(tmp_path, files, monkeypatch):
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path / "file"))
    with pytest.warns(UserWarning, match="could not be cached"):
        assert len(open_catalog(files)) == 185


# -- the order of the goals -----------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["synthetic", "human"])
def test_draws_are_kept_for_large_catalogues(cache, files, monkeypatch, kind):
    catalog = load_catalog(files, human=True)
    drawn = Goals(catalog, kind)
    assert not cache.exists()
    monkeypatch.setattr(goals_module, "_KEPT_FROM", 1)
    made = Goals(catalog, kind)
    (folder,) = cache.glob("goals-*")
    Goals(catalog, kind, seed=5)
    assert list(cache.glob("goals-*")) == [folder]  # other seeds may be many
    with monkeypatch.context() as patch:
        patch.setattr(goals_module, "_limit", None)
        kept = Goals(catalog, kind)
    for goals in (made, kept):
        assert (list(goals), list(goals.prices)) == (list(drawn), list(drawn.prices))
        assert list(goals.weights()) == list(drawn.weights())
    del made, kept, goals  # nobody may look at the map of a file that is cut
    os.truncate(folder / "order.npy", 200)
    assert list(Goals(catalog, kind)) == list(drawn)
    shutil.copy(folder / "limits.npy", folder / "prices.npy")
    assert list(Goals(catalog, kind)) == list(drawn)


def test_more_goals_than_can_be_counted():
    def catalog(names):
        options = {f"option {i}": [{"value": f"value {j}"} for j in range(100)] for i in range(names)}
        record = {
            "asin": "B000000001",
            "name": "Hat",
            "full_description": "",
            "small_description": [],
            "query": "hat",
            "customization_options": options,
            "category": "fashion",
            "product_category": "Hats",
        }
        entry = {"attributes": ["warm"], "instruction": "Find me a hat", "instruction_attributes": ["warm"]}
        return build_catalog([record], {"B000000001": entry})

    with pytest.raises(CorruptData, match="more than 100,000,000 goals"):
        Goals(catalog(5))
    with pytest.raises(CorruptData, match="fewer combinations"):
        catalog(10)


# -- shops ----------------------------------------------------------------------------------------


@pytest.fixture
def fresh_shops():
    shop_module._embedded_shop.cache_clear()
    yield
    shop_module._embedded_shop.cache_clear()


def test_the_embedded_catalogue_is_generated_once(cache, fresh_shops, monkeypatch):
    first = open_shop("embedded")
    shop_module._embedded_shop.cache_clear()
    monkeypatch.setattr(embedded, "generate_catalog", None)
    again = open_shop("embedded")
    assert again is not first
    assert everything(again.catalog) == everything(first.catalog)


def test_embedded_nouns_are_those_of_the_catalogue():
    made, nouns = generate_catalog(), EmbeddedNouns()
    assert all(list(nouns.of(title)) == found for title, found in made.title_nouns.items())


@pytest.mark.parametrize("quirks", ["original", "fixed"])
@pytest.mark.parametrize("kind", ["synthetic", "human"])
def test_what_cannot_be_reached_the_oracle_cannot_reach(kind, quirks):
    catalog = load_catalog(CatalogFiles.find(str(DATA / "catalogue_edge200")), human=True)
    shop = Shop(catalog, SearchIndex.build(catalog.documents()), KnownNouns({}))
    goals, controls = Goals(catalog, kind), Controls(shop, quirks)
    lost = tuple(goal.index for goal in goals if plan(Session(controls, goals, goal, str(goal.index))) is None)
    assert count_reachable(shop, goals, quirks).unreachable == lost
    buttons = {"description", "features", "reviews", "attributes", "buy now", "< prev", "back to search", "search"}
    if (kind, quirks) == ("synthetic", "fixed"):
        assert any(value in buttons for index in lost for _, value in goals[index].options)


def test_kept_draws_are_those_of_the_canonical_seed_alone(tmp_path, monkeypatch):
    monkeypatch.setenv("SDAR_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(goals_module, "_KEPT_FROM", 0)
    catalog = open_shop("embedded").catalog

    def order(seed):
        return [goal.instruction for goal in Goals(catalog, seed=seed, shuffle_seed=seed)[:20]]

    first = [order(seed) for seed in (233, 1, 2)]
    assert first[0] != first[1] != first[2] != first[0]
    assert [order(seed) for seed in (233, 1, 2)] == first
