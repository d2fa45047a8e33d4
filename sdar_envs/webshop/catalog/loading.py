"""Loading of WebShop's official catalogue files, or of records in their format, into a packed `Catalog`.

Three JSON files, plain or gzipped: `items_shuffle.json` (products), `items_ins_v2.json` (attributes and
synthetic instructions), `items_human_ins.json` (human instructions, for human goals only). Products are read as a
stream, so that the file of 1.18 million is never in memory as a whole.

As in the original: records whose ASIN is `nan`, longer than ten characters or already seen are skipped; a product
whose entry has no `attributes` gets `DUMMY_ATTR`; a missing price is 100 dollars. Unlike the original, which stops
with a `KeyError`, a product without an entry in `items_ins_v2` is kept: it has `DUMMY_ATTR` and no synthetic goal.

`CorruptData` is raised for files that end early or are not JSON, fields of another type than the original
works with, prices without a dollar amount, attribute files that know none of the products.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from decimal import Decimal, InvalidOperation
from itertools import islice
from pathlib import Path
from typing import Any, TextIO

from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.files.arrays import open_or_make
from sdar_envs.storage import given_path, with_progress
from sdar_envs.webshop.catalog.products import Catalog, CatalogPacker, HumanInstruction, Product

__all__ = ["Catalog", "CatalogFiles", "HumanInstruction", "Product", "build_catalog", "load_catalog", "open_catalog"]

_CHUNK = 1 << 22
# Bytes of the files from which reading takes seconds.
_SHOW_PROGRESS_FROM = 1 << 26
_LARGEST_RECORD = 1 << 26
_BETWEEN = " \t\n\r"
_DUMMY_ATTRIBUTES = ("DUMMY_ATTR",)
_NOT_PRICE = re.compile(r"[^\d.]")


@dataclass(frozen=True, slots=True)
class CatalogFiles:
    """Paths of the official catalogue files.

    Attributes:
        products: `items_shuffle*.json`.
        attributes: `items_ins_v2*.json`.
        human: `items_human_ins.json`, or None if it is not there.
    """

    products: Path
    attributes: Path
    human: Path | None

    @classmethod
    def find(cls, data_dir: str | None = None) -> CatalogFiles:
        """Find the files in a folder.

        Args:
            data_dir: their folder, or the products' file itself; None for `$WEBSHOP_DATA`. In a folder that holds
                both, the full `items_shuffle.json` comes before the subset `items_shuffle_1000.json`. Each
                file may be gzipped (`.json.gz`).

        Raises:
            MissingData: a file is not there; the message says which to download.
        """
        given = data_dir or os.environ.get("WEBSHOP_DATA")
        advice = (
            "download items_shuffle.json and items_ins_v2.json (or the subset items_shuffle_1000.json and "
            "items_ins_v2_1000.json), and items_human_ins.json for human goals, as princeton-nlp/WebShop's setup.sh "
            "does, and pass their folder as data_dir or set $WEBSHOP_DATA"
        )
        if not given:
            raise MissingData(f"no official WebShop data: neither data_dir nor $WEBSHOP_DATA is set; {advice}.")
        place = given_path(given)
        if place.is_dir():
            folder, names = place, ["items_shuffle.json", "items_shuffle_1000.json"]
        else:
            folder, names = place.parent, [place.name.removesuffix(".gz")]
        products = _first(folder, *names)
        if products is None:
            raise MissingData(f"no official WebShop data: {place} is not there or has no {names[0]}; {advice}.")
        suffix = "_1000" if "_1000.json" in products.name else ""
        wanted = (f"items_ins_v2{suffix}.json", "items_ins_v2.json", "items_ins_v2_1000.json")
        attributes = _first(folder, *wanted)
        if attributes is None:
            raise MissingData(f"{folder} has {products.name}, but no {wanted[0]}; {advice}.")
        return cls(products, attributes, _first(folder, "items_human_ins.json"))

    def state(self) -> tuple[tuple[str, int, int], ...]:
        """Return path, size and modification time of each file: the key of what is cached of them.

        Raises:
            MissingData: a file is not there any more.
        """
        paths = [path.resolve() for path in (self.products, self.attributes, self.human) if path is not None]
        try:
            return tuple((str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in paths)
        except FileNotFoundError as error:
            raise _missing(error.filename) from error


def open_catalog(files: CatalogFiles, *, human: bool = False, num_products: int | None = None) -> Catalog:
    """Return the catalogue of these files, from the cache folder if they were loaded before.

    Files that were replaced without a change of path, size and time are not noticed: delete the cache folder then.
    """
    state = files.state()
    digest = hashlib.blake2b(repr((state, human, num_products)).encode("utf-8", "surrogatepass"), digest_size=16)

    def save(catalog: Catalog, path: Path) -> None:
        if files.state() != state:
            raise OSError("its files changed while they were read")
        catalog.save(path)

    return open_or_make(
        "webshop",
        f"catalog-{digest.hexdigest()}",
        Catalog.open,
        lambda: load_catalog(files, human=human, num_products=num_products),
        save,
        what="catalogue",
    )


def load_catalog(files: CatalogFiles, *, human: bool = False, num_products: int | None = None) -> Catalog:
    """Load a catalogue from the official files.

    Args:
        files: where they are.
        human: read the human instructions too.
        num_products: only the products among the first so many records; None for all.

    Raises:
        MissingData: `human` is set and the file with the human instructions is not there.
        CorruptData: a file is damaged or not what it should be.
    """
    if human and files.human is None:
        raise MissingData(
            f"human goals need items_human_ins.json in the folder of {files.products}: download it as "
            "princeton-nlp/WebShop's setup.sh does, or use goals='synthetic'."
        )
    is_large = sum(size for _, size, _ in files.state()) >= _SHOW_PROGRESS_FROM
    paths = [files.attributes, *([files.human] if human and files.human is not None else [])]
    reading = with_progress(
        paths,
        "Reading attributes and instructions (once)",
        total=len(paths),
        show_from=len(paths) + 1,
        is_long=is_large,
    )
    attributes, *rest = [_read_object(path) for path in reading]
    instructions = rest[0] if rest else {}
    return build_catalog(
        with_progress(
            _read_array(files.products), "Reading products (once)", total=None, show_from=0, is_long=is_large
        ),
        attributes,
        instructions,
        num_products=num_products,
        origin=str(files.products),
        attributes_origin=str(files.attributes),
    )


def build_catalog(
    records: Iterable[Any],
    attributes: Mapping[str, Any],
    human: Mapping[str, Any] | None = None,
    *,
    num_products: int | None = None,
    origin: str = "the catalogue",
    attributes_origin: str = "the attributes",
) -> Catalog:
    """Build a catalogue from records in the official format.

    Args:
        records: what `items_shuffle.json` lists.
        attributes: what `items_ins_v2.json` holds.
        human: what `items_human_ins.json` holds.
        num_products: only the products among the first so many records; None for all.
        origin: the source of the records, for error messages.
        attributes_origin: the source of the attributes, for error messages.

    Raises:
        CorruptData: see the module.
    """
    builder = _Builder(attributes, origin, attributes_origin)
    sold = 0
    for position, record in enumerate(records):
        if num_products is not None and len(builder.packer) >= num_products <= position:
            break
        builder.add(position, record)
        if num_products is None or position < num_products:
            sold = len(builder.packer)
    if sold == 0:
        raise CorruptData(f"{origin} holds no usable product: download it again.")
    if not builder.has_attributes:
        raise CorruptData(
            f"{attributes_origin} knows none of the {sold} products of {origin}: the files do not belong together."
        )
    for asin in islice(builder.asins, sold if human else 0):
        builder.packer.add_human(_human_instructions(human or {}, asin))
    return builder.packer.finish(sold)


class _Builder:
    """Turns records into products, one after the other."""

    def __init__(self, attributes: Mapping[str, Any], origin: str, attributes_origin: str) -> None:
        self.packer = CatalogPacker()
        self.asins: dict[str, None] = {}  # in the order of the products
        self.has_attributes = False
        self._attributes = attributes
        self._origin = origin
        self._attributes_origin = attributes_origin

    def add(self, position: int, record: Any) -> None:
        where = f"{self._origin}, record {position}"
        if not isinstance(record, dict):
            raise _wrong(where, "it", record, "an object")
        asin = _text(record, "asin", where)
        if asin == "nan" or len(asin) > 10 or asin in self.asins:
            return
        self.asins[asin] = None
        where = f"{where} ({asin})"
        bullets = record.get("small_description")
        bullets = [bullets] if isinstance(bullets, str) else bullets
        prices, tag = _prices(record.get("pricing"), where)
        entry = self._attributes.get(asin)
        known, instruction, wanted = self._entry(asin, {} if entry is None else entry)
        self.has_attributes |= entry is not None
        product = Product(
            number=len(self.packer),
            asin=asin,
            title=_text(record, "name", where),
            description=_text(record, "full_description", where),
            bullets=_texts(bullets, "small_description", where),
            price_tag=tag,
            prices=prices,
            options=_options(record.get("customization_options"), where),
            attributes=known,
            category=_text(record, "category", where),
            query=_text(record, "query", where).lower().strip(),
            product_category=_text(record, "product_category", where),
            instruction=instruction,
            instruction_attributes=wanted,
        )
        try:
            self.packer.add(product)
        except OverflowError as error:
            raise _wrong(
                where, "customization_options", record["customization_options"], "fewer combinations"
            ) from error

    def _entry(self, asin: str, entry: Any) -> tuple[tuple[str, ...], str | None, tuple[str, ...]]:
        where = f"{self._attributes_origin}, {asin}"
        if not isinstance(entry, dict):
            raise _wrong(where, "it", entry, "an object")
        known = _texts(entry["attributes"], "attributes", where) if "attributes" in entry else _DUMMY_ATTRIBUTES
        instruction = entry.get("instruction")
        if instruction is None:
            return known, None, ()
        wanted = _texts(entry.get("instruction_attributes"), "instruction_attributes", where)
        if not wanted:
            raise _wrong(where, "instruction_attributes", [], "at least one attribute, because there is an instruction")
        return known, _text(entry, "instruction", where), wanted


def _prices(pricing: Any, where: str) -> tuple[tuple[float, ...], str]:
    if not pricing:
        return (100.0,), "$100.0"
    if not isinstance(pricing, str):
        raise _wrong(where, "pricing", pricing, "a text such as '$24.49'")
    try:
        prices = [float(Decimal(_NOT_PRICE.sub("", amount))) for amount in pricing.split("$")[1:]]
    except InvalidOperation:
        prices = []
    if not prices:
        raise _wrong(where, "pricing", pricing, "a text such as '$24.49' or '$10 - $15'")
    if len(prices) == 1:
        return (prices[0],), f"${prices[0]}"
    return (prices[0], prices[1]), f"${prices[0]} to ${prices[1]}"


def _options(customization: Any, where: str) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not customization:
        return ()
    if not isinstance(customization, dict):
        raise _wrong(where, "customization_options", customization, "an object of options")
    options: dict[str, tuple[str, ...]] = {}
    for name, contents in customization.items():
        if contents is None:
            continue
        if not isinstance(contents, list) or not all(
            isinstance(content, dict) and isinstance(content.get("value"), str) for content in contents
        ):
            raise _wrong(where, f"customization_options[{name!r}]", contents, "a list of objects with a text 'value'")
        values = (content["value"].strip().replace("/", " | ").lower() for content in contents)
        options[name.lower()] = tuple(values)
    return tuple(options.items())


def _human_instructions(human: Mapping[str, Any], asin: str) -> list[HumanInstruction]:
    entries = human.get(asin)
    if entries is None:
        return []
    where = f"items_human_ins, {asin}"
    if not isinstance(entries, list):
        raise _wrong(where, "it", entries, "a list of instructions")
    texts = []
    for entry in entries:
        if not isinstance(entry, dict):
            raise _wrong(where, "an instruction", entry, "an object")
        texts.append(
            HumanInstruction(
                _text(entry, "instruction", where),
                _texts(entry.get("instruction_attributes"), "instruction_attributes", where),
                _texts(entry.get("instruction_options"), "instruction_options", where),
            )
        )
    return texts


def _text(record: Mapping[str, Any], key: str, where: str) -> str:
    value = record.get(key)
    if not isinstance(value, str):
        raise _wrong(where, key, value, "a text")
    return value


def _texts(values: Any, key: str, where: str) -> tuple[str, ...]:
    if not isinstance(values, list) or not {*map(type, values)} <= {str}:
        raise _wrong(where, key, values, "a list of texts")
    return tuple(values)


def _wrong(where: str, key: str, came: Any, wanted: str) -> CorruptData:
    return CorruptData(f"{where}: {key} is {came!r:.80} ({type(came).__name__}); wanted {wanted}.")


# -- files ----------------------------------------------------------------------------------


def _first(folder: Path, *names: str) -> Path | None:
    paths = (folder / f"{name}{end}" for name in names for end in ("", ".gz"))
    return next((path for path in paths if path.is_file()), None)


def _missing(path: Path | str) -> MissingData:
    return MissingData(f"there is no file {path}: download it as princeton-nlp/WebShop's setup.sh does.")


def _open(path: Path) -> TextIO:
    if path.suffix == ".gz":
        return io.TextIOWrapper(gzip.open(path), encoding="utf-8-sig")
    # Editors on Windows put a mark at the start, which JSON does not have.
    return open(path, encoding="utf-8-sig")


def _read_object(path: Path) -> dict[str, Any]:
    try:
        with _open(path) as file:
            content = json.load(file)  # noqa: TID251  # gigabytes, and RecursionError is caught below
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise CorruptData(f"{path} cannot be read as JSON ({error}): download it again.") from error
    if not isinstance(content, dict):
        raise CorruptData(f"{path} is a JSON {type(content).__name__}; wanted an object with ASINs as keys.")
    return content


def _read_array(path: Path) -> Iterator[Any]:
    """Yield the elements of a JSON array without holding the file in memory."""
    try:
        with _open(path) as file:
            yield from _elements(file)
    except FileNotFoundError as error:
        raise _missing(path) from error
    except (ValueError, OSError, EOFError, zlib.error, RecursionError) as error:
        raise CorruptData(f"{path} cannot be read as a JSON list of products ({error}): download it again.") from error


def _elements(file: TextIO) -> Iterator[Any]:
    decode = json.JSONDecoder().raw_decode
    text, position, is_first = "", 0, True
    while True:
        # One element with what precedes it; when it does not decode, the rest of it may not be read yet.
        try:
            start = _skip(text, position)
            sign = text[start : start + 1]
            if is_first and sign not in ("[", ""):
                raise ValueError(f"it begins with {text[start : start + 20]!r}; wanted '['")
            if not is_first and sign not in (",", "]", ""):
                raise ValueError(f"{text[start : start + 20]!r} follows a product; wanted ',' or ']'")
            if sign != "]":
                start = _skip(text, start + 1)
            if text[start : start + 1] == "]" and (is_first or sign == "]"):
                rest = text[start + 1 :] + file.read(_CHUNK)
                if rest.strip(_BETWEEN):
                    raise ValueError(f"{rest.strip()[:20]!r} follows the list")
                return
            element, position = decode(text, start)
        except json.JSONDecodeError as error:
            more = file.read(_CHUNK)
            if not more:
                raise ValueError("it ends in the middle of the list") from error
            if len(text) - position > _LARGEST_RECORD:
                raise
            text, position = text[position:] + more, 0
        else:
            is_first = False
            yield element


def _skip(text: str, position: int) -> int:
    while position < len(text) and text[position] in _BETWEEN:
        position += 1
    return position
