"""Reading catalogues: the original's rules, and what damaged or wrong files are answered with."""

import copy
import gzip
import json
import shutil
from pathlib import Path

import pytest

from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.webshop.catalog import loading
from sdar_envs.webshop.catalog.loading import CatalogFiles, build_catalog, load_catalog
from sdar_envs.webshop.goals import Goals

DATA = Path(__file__).parents[1] / "data"

RECORD = {
    "asin": "B000000001",
    "name": "Red Hat",
    "full_description": "A hat.",
    "small_description": ["warm ", "red"],
    "pricing": "$24.49",
    "customization_options": {"Color": [{"value": " Red/Blue ", "image": None}, {"value": "Black"}]},
    "category": "fashion",
    "query": " Hats ",
    "product_category": "Clothing › Hats",
}
ENTRY = {"attributes": ["warm"], "instruction": "Find me a hat", "instruction_attributes": ["warm"]}


def build(record=None, entry=ENTRY, **changes):
    made = {**RECORD, **(record or {}), **changes}
    return build_catalog([made], {made["asin"]: entry} if isinstance(made.get("asin"), str) else {"x": ENTRY})


@pytest.fixture
def folder(tmp_path):
    for path in (DATA / "catalogue_edge200").iterdir():
        shutil.copy(path, tmp_path)
        (tmp_path / path.name).chmod(0o644)
    return tmp_path


def test_a_product():
    (product,) = build().products
    assert product.title == "Red Hat"
    assert product.query == "hats"
    assert product.bullets == ("warm ", "red")
    assert product.options == (("color", ("red | blue", "black")),)
    assert (product.price_tag, product.prices) == ("$24.49", (24.49,))


@pytest.mark.parametrize(
    ("pricing", "tag", "prices"),
    [
        (None, "$100.0", (100.0,)),
        ("", "$100.0", (100.0,)),
        ("$34.00", "$34.0", (34.0,)),
        ("$1,299.99", "$1299.99", (1299.99,)),
        ("$24.49 - $39.99", "$24.49 to $39.99", (24.49, 39.99)),
        ("from $30 down to about $20 (or $10)", "$30.0 to $20.0", (30.0, 20.0)),
    ],
)
def test_prices(pricing, tag, prices):
    (product,) = build(pricing=pricing).products
    assert (product.price_tag, product.prices) == (tag, prices)


@pytest.mark.parametrize("options", ["", None, {}, {"color": None}])
def test_no_options(options):
    assert build(customization_options=options).products[0].options == ()


def test_one_bullet_may_be_a_text():
    assert build(small_description="one").products[0].bullets == ("one",)


def test_records_that_are_skipped():
    records = [RECORD, {**RECORD, "name": "again"}, {"asin": "nan"}, {"asin": "B0000000011"}]
    catalog = build_catalog(records, {RECORD["asin"]: ENTRY})
    assert [product.title for product in catalog.products] == ["Red Hat"]


def test_an_asin_without_attributes_has_a_dummy_and_no_goal():
    other = {**RECORD, "asin": "B000000002"}
    catalog = build_catalog([RECORD, other], {RECORD["asin"]: ENTRY})
    assert catalog.products[1].attributes == ("DUMMY_ATTR",)
    assert {goal.product.asin for goal in Goals(catalog)} == {RECORD["asin"]}
    assert build(entry={}).products[0].attributes == ("DUMMY_ATTR",)
    assert build(entry={"attributes": []}).products[0].attributes == ()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"asin": 3}, "asin is 3"),
        ({"name": None}, "name is None"),
        ({"full_description": ["x"]}, "full_description is"),
        ({"small_description": [None]}, "small_description is"),
        ({"small_description": None}, "small_description is"),
        ({"pricing": 24.49}, "pricing is 24.49"),
        ({"pricing": "24.49"}, "pricing is '24.49'"),
        ({"pricing": "$a lot"}, "pricing is"),
        ({"pricing": "$1.2.3"}, "pricing is"),
        ({"customization_options": ["red"]}, "customization_options is"),
        ({"customization_options": {"color": ["red"]}}, "'color'"),
        ({"customization_options": {"color": [{"value": 3}]}}, "'color'"),
        ({"query": None}, "query is None"),
        ({"category": 1}, "category is 1"),
        ({"product_category": None}, "product_category is None"),
    ],
)
def test_wrong_types_are_named(changes, message):
    with pytest.raises(CorruptData, match=message):
        build(changes)


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ([], "wanted an object"),
        ({"attributes": "warm"}, "attributes is 'warm'"),
        ({"attributes": [1]}, "attributes is"),
        ({"instruction": 5, "instruction_attributes": ["warm"]}, "instruction is 5"),
        ({"instruction": "Find"}, "instruction_attributes is None"),
        ({"instruction": "Find", "instruction_attributes": []}, "at least one attribute"),
    ],
)
def test_wrong_attributes_are_named(entry, message):
    with pytest.raises(CorruptData, match=message):
        build(entry=entry)


def test_files_that_do_not_belong_together():
    with pytest.raises(CorruptData, match="do not belong together"):
        build_catalog([RECORD], {"B999999999": ENTRY})


def test_no_usable_product():
    with pytest.raises(CorruptData, match="no usable product"):
        build_catalog([{"asin": "nan"}], {"x": ENTRY})
    with pytest.raises(CorruptData, match="record 0: it is 'x'"):
        build_catalog(["x"], {"x": ENTRY})


@pytest.mark.parametrize("kind", ["synthetic", "human"])
def test_no_goals(kind):
    with pytest.raises(CorruptData, match=f"makes a {kind} goal"):
        Goals(build(entry={"attributes": ["warm"]}), kind)


def test_the_fingerprint_is_of_the_content():
    one = build().fingerprint
    assert one == build(copy.deepcopy(RECORD)).fingerprint
    changed = {"name": "Red hat", "pricing": "$24.5", "small_description": ["warm red"], "customization_options": None}
    assert len({one, *(build({key: value}).fingerprint for key, value in changed.items())}) == 5


def test_num_products_cuts_before_bad_records_are_dropped_and_the_index_after():
    records = [{"asin": "nan"}, *({**RECORD, "asin": f"B00000000{i}"} for i in range(5))]
    catalog = build_catalog(records, {f"B00000000{i}": ENTRY for i in range(5)}, num_products=3)
    assert [product.asin for product in catalog.products] == ["B000000000", "B000000001"]
    assert [product.asin for product in catalog.indexed] == ["B000000000", "B000000001", "B000000002"]
    assert catalog.indexed[:2] == list(catalog.products)


# -- files ----------------------------------------------------------------------------------


def test_nothing_set(monkeypatch):
    monkeypatch.delenv("WEBSHOP_DATA", raising=False)
    with pytest.raises(MissingData, match=r"download items_shuffle\.json"):
        CatalogFiles.find()


def test_a_folder_from_the_environment(monkeypatch, folder):
    monkeypatch.setenv("WEBSHOP_DATA", str(folder))
    files = CatalogFiles.find()
    assert files.products == folder / "items_shuffle.json"
    assert files.human == folder / "items_human_ins.json"


def test_the_subset_beside_the_full_files(folder):
    for name in ("items_shuffle", "items_ins_v2"):
        shutil.copy(folder / f"{name}.json", folder / f"{name}_1000.json")
    assert CatalogFiles.find(str(folder)).products.name == "items_shuffle.json"
    subset = CatalogFiles.find(str(folder / "items_shuffle_1000.json"))
    assert (subset.products.name, subset.attributes.name) == ("items_shuffle_1000.json", "items_ins_v2_1000.json")
    (folder / "items_shuffle.json").unlink()
    assert CatalogFiles.find(str(folder)) == subset


@pytest.mark.parametrize("name", ["items_shuffle.json", "items_ins_v2.json"])
def test_a_missing_file(folder, name):
    (folder / name).unlink()
    with pytest.raises(MissingData, match=name):
        CatalogFiles.find(str(folder))
    with pytest.raises(MissingData):
        CatalogFiles.find(str(folder / "nowhere"))


def test_missing_human_instructions(folder):
    (folder / "items_human_ins.json").unlink()
    files = CatalogFiles.find(str(folder))
    assert len(load_catalog(files)) == 185
    with pytest.raises(MissingData, match=r"items_human_ins\.json"):
        load_catalog(files, human=True)


@pytest.mark.parametrize("name", ["items_shuffle.json", "items_ins_v2.json", "items_human_ins.json"])
@pytest.mark.parametrize("damage", ["cut", "empty", "binary", "other", "cut gzip", "no gzip"])
def test_damaged_files(folder, name, damage):
    path = folder / name
    content = path.read_bytes()
    if "gzip" in damage:
        path.unlink()
        path = folder / f"{name}.gz"
        content = gzip.compress(content) if damage == "cut gzip" else content
    damaged = {"empty": b"", "binary": b"\xff\xfe" + content[2:], "other": b'"x"', "no gzip": content}
    path.write_bytes(damaged.get(damage, content[: len(content) // 2]))
    with pytest.raises(CorruptData, match=str(path)):
        load_catalog(CatalogFiles.find(str(folder)), human=True)


@pytest.mark.parametrize("chunk", [1, 7, 1000, 1 << 22])
@pytest.mark.parametrize("text", ["[]", " [ 1 , {} ]\n", '[{"a": [1, "]"]},\n{"b": "\\u00e9\\""}]', "[[], [1]]"])
def test_lists_are_read_in_chunks(tmp_path, monkeypatch, chunk, text):
    monkeypatch.setattr(loading, "_CHUNK", chunk)
    path = tmp_path / "list.json"
    path.write_text(text)
    assert list(loading._read_array(path)) == json.loads(text)


@pytest.mark.parametrize("chunk", [1, 1 << 22])
@pytest.mark.parametrize(
    "text", ["", "[", "[1", "[{}", "[{},", "[{} {}]", "[{}}", "[{}]x", "{}", "[,]", "[{},]", '[{"a": }]']
)
def test_text_that_is_no_list_is_refused(tmp_path, monkeypatch, chunk, text):
    monkeypatch.setattr(loading, "_CHUNK", chunk)
    path = tmp_path / "list.json"
    path.write_text(text)
    with pytest.raises(CorruptData, match=r"list\.json"):
        list(loading._read_array(path))


def test_a_broken_record_does_not_read_gigabytes(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_CHUNK", 10)
    monkeypatch.setattr(loading, "_LARGEST_RECORD", 100)
    path = tmp_path / "list.json"
    path.write_text('[{"a" 1}' + ", {}" * 10_000 + "]")
    with path.open() as file:
        with pytest.raises(ValueError, match="delimiter"):
            list(loading._elements(file))
        assert file.tell() < 1000 or file.read(1)


def test_reading_a_big_catalogue_shows_progress_at_once(monkeypatch, capsys):
    files = CatalogFiles.find(str(DATA / "catalogue_edge200"))
    load_catalog(files)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(loading, "_SHOW_PROGRESS_FROM", 1)
    load_catalog(files)
    first, *_, last = capsys.readouterr().err.splitlines()
    assert first == "Reading attributes and instructions (once): 0 of 1"
    assert last.startswith("Reading products (once): ")
