"""Packed catalogue: memory-mapped arrays of product texts, decoded one product at a time.

A million products as Python objects would take gigabytes of memory and minutes to load. Here the texts lie end to end,
and what is needed of all products at once (prices, combinations of options, category, query) is in arrays.
`Catalog.save` writes them to a folder, `Catalog.open` maps it.

Damaged folders raise `CorruptData`, some when they are opened and the others when a product is read.
"""

from __future__ import annotations

import hashlib
import json
import math
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import lru_cache
from math import prod
from operator import attrgetter
from pathlib import Path
from typing import Any, NamedTuple, TypeVar, overload

import numpy as np
from numpy.typing import NDArray

from sdar_envs.errors import CorruptData
from sdar_envs.files.arrays import open_arrays, running_sum, save_arrays

__all__ = ["Catalog", "CatalogPacker", "HumanInstruction", "Product", "document_text"]

_FORMAT = 1  # raise it whenever the arrays, or what is read from the same official files, change
_KEPT = 4096  # products, about 15 MB
_ENCODE = json.JSONEncoder(ensure_ascii=False, check_circular=False, separators=(",", ":")).encode
_DECODE = json.JSONDecoder().decode

ItemT = TypeVar("ItemT")


@dataclass(frozen=True, slots=True)
class Product:
    """One product as the shop shows it.

    Attributes:
        number: position in the catalogue.
        asin: the product's id.
        title: its name.
        description: one text, often empty.
        bullets: the features.
        price_tag: the price as shown, such as `$24.49` or `$10.0 to $15.5`.
        prices: one price, or the two ends of a range, in the order of the file.
        options: (name, values) in the order of the file; lower case.
        attributes: what the reward compares; never shown unless the Attributes tab is on.
        category: the department, such as `beauty`.
        query: the search that the product was collected with.
        product_category: the path of categories, joined by U+203A.
        instruction: the synthetic instruction without options and price; None if there is none.
        instruction_attributes: the attributes that the synthetic instruction asks for.
    """

    number: int
    asin: str
    title: str
    description: str
    bullets: tuple[str, ...]
    price_tag: str
    prices: tuple[float, ...]
    options: tuple[tuple[str, tuple[str, ...]], ...]
    attributes: tuple[str, ...]
    category: str
    query: str
    product_category: str
    instruction: str | None
    instruction_attributes: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class HumanInstruction:
    """Instruction that a person wrote for a product: its text, the attributes and the option values to look for."""

    text: str
    attributes: tuple[str, ...]
    options: tuple[str, ...]


def document_text(title: str, description: str, first_bullet: str, options: Iterable[tuple[str, Sequence[str]]]) -> str:
    """Return the text of a product that the search indexes.

    Args:
        title: the product's name.
        description: its description.
        first_bullet: the first feature; an empty string if there is none.
        options: (name, values) in the order of the catalogue.
    """
    option_text = ", and ".join(f"{name}: {', '.join(values)}" for name, values in options)
    return " ".join((title, description, first_bullet, option_text)).lower()


_STORED = attrgetter(*[field.name for field in fields(Product) if field.name != "number"])
_WIDTH = len(fields(Product)) - 1


class _Arrays(NamedTuple):
    """A catalogue as it is stored; n is the number of indexed products.

    Attributes:
        texts: a JSON list per product, in UTF-8, end to end.
        ends: where each begins and ends in them: (n + 1,).
        human: the same for the human instructions of each product.
        human_ends: (n + 1,).
        human_counts: for each product, its human instructions that name an attribute.
        prices: lowest and highest as in the file, the second NaN if there is one price: (n, 2).
        combinations: ways to choose one value of each option; -1 for products without a synthetic instruction.
        categories: for each product, its position in the list of categories.
        queries: the same for queries.
    """

    texts: NDArray[np.uint8]
    ends: NDArray[np.int64]
    human: NDArray[np.uint8]
    human_ends: NDArray[np.int64]
    human_counts: NDArray[np.int32]
    prices: NDArray[np.float64]
    combinations: NDArray[np.int64]
    categories: NDArray[np.int32]
    queries: NDArray[np.int32]


class _Rows(Sequence[ItemT]):
    """The first `size` of what `read` gives for a number."""

    def __init__(self, read: Callable[[int], ItemT], size: int) -> None:
        self._read = read
        self._size = size

    def __len__(self) -> int:
        return self._size

    @overload
    def __getitem__(self, index: int) -> ItemT: ...
    @overload
    def __getitem__(self, index: slice) -> list[ItemT]: ...
    def __getitem__(self, index: int | slice) -> ItemT | list[ItemT]:
        if isinstance(index, slice):
            return [self._read(number) for number in range(*index.indices(self._size))]
        if not -self._size <= index < self._size:
            raise IndexError(f"no number {index}: there are {self._size}")
        return self._read(index % self._size)


class Catalog:
    """Immutable sequence of products in a fixed order, made by `CatalogPacker` or `open`.

    Attributes:
        products: what can be bought.
        indexed: what the search engine knows, beginning with `products`. It is more only if `num_products` was
            given, because the original cuts the products before it drops bad records, and its index after.
        titles: of `products`.
        prices: for each product of `products`, the ends of its price range, or the price and NaN: (n, 2).
        combinations: for each, how many goals its synthetic instruction makes; -1 if it has none.
        human_counts: for each, how many goals its human instructions make.
        index_key: hexadecimal digest of `indexed`.
        fingerprint: hexadecimal digest of everything.
    """

    def __init__(self, arrays: _Arrays, facts: Mapping[str, Any], path: Path | None = None) -> None:
        sold = int(facts["sold"])
        self._arrays = arrays
        self._facts = facts
        self._path = path
        read = lru_cache(maxsize=_KEPT)(self._product)
        self.products: Sequence[Product] = _Rows(read, sold)
        self.indexed: Sequence[Product] = _Rows(read, len(arrays.ends) - 1)
        self.titles: Sequence[str] = _Rows(lambda number: str(self._row(number)[1]), sold)
        self.prices = arrays.prices[:sold]
        self.combinations = arrays.combinations[:sold]
        self.human_counts = arrays.human_counts[:sold]
        self.index_key: str = facts["index_key"]
        self.fingerprint: str = facts["fingerprint"]

    def __len__(self) -> int:
        return len(self.products)

    def human(self, number: int) -> tuple[HumanInstruction, ...]:
        """Return the human instructions for a product, in the order of the file."""
        rows = self._json(self._arrays.human, self._arrays.human_ends, number) or ()
        return tuple(HumanInstruction(text, tuple(wanted), tuple(options)) for text, wanted, options in rows)

    def documents(self) -> Iterator[tuple[str, str]]:
        """Yield the ASIN and the searchable text of each indexed product."""
        for number in range(len(self.indexed)):
            asin, title, description, bullets, _, _, options, *_ = self._row(number)
            yield asin, document_text(title, description, bullets[0] if bullets else "", options)

    def in_category(self, category: str) -> tuple[int, ...]:
        """Return the numbers of the products of a category."""
        return self._listed(self._arrays.categories, self._facts["categories"], category)

    def with_query(self, query: str) -> tuple[int, ...]:
        """Return the numbers of the products that were collected with a query."""
        return self._listed(self._arrays.queries, self._facts["queries"], query)

    def _listed(self, codes: NDArray[np.int32], names: Sequence[str], name: str) -> tuple[int, ...]:
        if name not in names:
            return ()
        return tuple(np.flatnonzero(codes[: len(self)] == names.index(name)).tolist())

    def _product(self, number: int) -> Product:
        try:
            asin, title, description, bullets, tag, prices, options, attributes, *rest = self._row(number)
            category, query, path, instruction, wanted = rest
            pairs = tuple((name, tuple(values)) for name, values in options)
            shown = (asin, title, description, tuple(bullets), tag, tuple(prices), pairs)
            return Product(number, *shown, tuple(attributes), category, query, path, instruction, tuple(wanted))
        except (TypeError, ValueError) as error:
            raise self._damaged(number) from error

    def _row(self, number: int) -> list[Any]:
        row = self._json(self._arrays.texts, self._arrays.ends, number)
        if not isinstance(row, list) or len(row) != _WIDTH:
            raise self._damaged(number)
        return row

    def _json(self, texts: NDArray[np.uint8], ends: NDArray[np.int64], number: int) -> Any:
        text = texts[ends[number] : ends[number + 1]].tobytes()
        try:
            return _DECODE(text.decode("utf-8", "surrogatepass")) if text else None
        except ValueError as error:
            raise self._damaged(number) from error

    def _damaged(self, number: int) -> CorruptData:
        return CorruptData(f"product {number} of the catalogue in {self._path} is damaged: delete that folder.")

    def save(self, path: Path) -> None:
        """Write the catalogue to a new folder.

        Raises:
            OSError: the folder exists or cannot be written; a part of it may be left.
        """
        save_arrays(path, _FORMAT, self._arrays._asdict(), self._facts)

    @classmethod
    def open(cls, path: Path) -> Catalog:
        """Map a catalogue that `save` wrote.

        Raises:
            MissingData: there is none.
            CorruptData: it is damaged or of another version of this package.
        """
        with open_arrays(path, _FORMAT) as (stored, facts):
            catalog = cls(_Arrays(**stored), facts, path)
            arrays = catalog._arrays
            size = len(arrays.ends) - 1
            if not (
                0 < len(catalog) <= size
                and arrays.prices.shape == (size, 2)
                and all(len(getattr(arrays, name)) == size for name in ("human_counts", "combinations", "categories"))
                and len(arrays.queries) == size
                and len(arrays.human_ends) == size + 1
                and arrays.ends[-1] == len(arrays.texts)
                and arrays.human_ends[-1] == len(arrays.human)
                and isinstance(facts["categories"], list)
                and isinstance(facts["queries"], list)
            ):
                raise ValueError("its files do not fit each other")
        return catalog


class CatalogPacker:
    """Builder of a `Catalog`: takes products one after the other."""

    def __init__(self) -> None:
        self._digest = hashlib.blake2b(digest_size=16)
        self._human_digest = hashlib.blake2b(digest_size=16)
        self._texts = bytearray()
        self._sizes = array("q")
        self._human = bytearray()
        self._human_sizes = array("q")
        self._human_counts = array("i")
        self._prices = array("d")
        self._combinations = array("q")
        self._categories: dict[str, int] = {}
        self._queries: dict[str, int] = {}
        self._category_codes = array("i")
        self._query_codes = array("i")

    def __len__(self) -> int:
        return len(self._sizes)

    def add(self, product: Product) -> None:
        """Add the next product; its number is how many came before.

        Raises:
            OverflowError: its instruction makes more goals than can be counted.
        """
        combinations = -1 if product.instruction is None else prod(len(values) for _, values in product.options)
        self._combinations.append(combinations)
        text = _ENCODE(_STORED(product)).encode("utf-8", "surrogatepass")
        self._digest.update(text)
        self._texts += text
        self._sizes.append(len(text))
        self._prices.extend((*product.prices, math.nan)[:2])
        self._category_codes.append(self._categories.setdefault(product.category, len(self._categories)))
        self._query_codes.append(self._queries.setdefault(product.query, len(self._queries)))

    def add_human(self, instructions: Sequence[HumanInstruction]) -> None:
        """Add the human instructions for the next product, beginning with the first."""
        rows = [(each.text, each.attributes, each.options) for each in instructions]
        text = _ENCODE(rows).encode("utf-8", "surrogatepass") if rows else b""
        self._human_digest.update(text or b"-")
        self._human += text
        self._human_sizes.append(len(text))
        self._human_counts.append(sum(bool(each.attributes) for each in instructions))

    def finish(self, sold: int) -> Catalog:
        """Return the catalogue, of which the first `sold` products can be bought."""
        size = len(self)
        index_key = self._digest.hexdigest()
        everything = f"{sold} of {size}, {index_key}, {self._human_digest.hexdigest()}"
        without = size - len(self._human_sizes)
        arrays = _Arrays(
            texts=np.frombuffer(self._texts, dtype=np.uint8),
            ends=running_sum(np.frombuffer(self._sizes, dtype=np.int64)),
            human=np.frombuffer(self._human, dtype=np.uint8),
            human_ends=running_sum(np.array([*self._human_sizes, *[0] * without], dtype=np.int64)),
            human_counts=np.array([*self._human_counts, *[0] * without], dtype=np.int32),
            prices=np.frombuffer(self._prices, dtype=np.float64).reshape(size, 2),
            combinations=np.frombuffer(self._combinations, dtype=np.int64),
            categories=np.frombuffer(self._category_codes, dtype=np.int32),
            queries=np.frombuffer(self._query_codes, dtype=np.int32),
        )
        facts = {
            "sold": sold,
            "index_key": index_key,
            "fingerprint": hashlib.blake2b(everything.encode(), digest_size=16).hexdigest(),
            "categories": list(self._categories),
            "queries": list(self._queries),
        }
        return Catalog(arrays, facts)
