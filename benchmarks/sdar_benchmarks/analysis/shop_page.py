"""A WebShop page read from its text observation, for people: buttons, products, options and texts apart.

    page = read_page(observation, admissible_commands)
    print(page_text(page, width=80))

Both forms of the text are read, `text` (one line with ` [SEP] `) and `text_rich` (lines with marked buttons). What a
page holds stays what it was: text.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass, field

__all__ = ["Option", "Product", "ShopPage", "page_text", "read_page"]

_SEP = " [SEP] "
_BUTTON = re.compile(r"\[(clicked )?button\] (.*) \[(?:clicked )?button_\]")
_BUTTONS = frozenset(
    {"Back to Search", "< Prev", "Next >", "Description", "Features", "Reviews", "Attributes", "Buy Now", "Search"}
)
_COUNT = re.compile(r"Page \d+ \(Total results: \d+\)")
_ASIN = re.compile(r"[A-Z0-9]{10}")
_PRICE = re.compile(r"\$\d[\d.,]*(?: to \$\d[\d.,]*)?")


@dataclass(frozen=True, slots=True)
class Product:
    """A product in a list of results; `was_seen` if its page was opened before, as far as the page says so."""

    asin: str
    title: str
    price: str
    was_seen: bool = False


@dataclass(slots=True)
class Option:
    """An option of a product: its values, and those that are chosen, as far as the page says so."""

    name: str
    values: list[str] = field(default_factory=list)
    chosen: list[str] = field(default_factory=list)


@dataclass(slots=True)
class ShopPage:
    """A page of the shop.

    Attributes:
        instruction: what is to be bought; empty on the last page.
        title: of the page: the number of results, the product, or words of ours.
        buttons: in their order.
        products: of a list of results.
        options: of a product.
        texts: everything else, in its order.
    """

    instruction: str
    title: str = ""
    buttons: list[str] = field(default_factory=list)
    products: list[Product] = field(default_factory=list)
    options: list[Option] = field(default_factory=list)
    texts: list[str] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class _Segment:
    text: str
    is_clicked: bool = False


def read_page(observation: str, commands: Sequence[str] | None = None) -> ShopPage | None:
    """Return the page that an observation shows; None if it shows none.

    Args:
        observation: of a WebShop environment.
        commands: the admissible commands, which tell values of options from texts; None if they are not known.
    """
    segments = _segments(observation)
    if segments and segments[0].text == "Thank you for shopping with us!":
        return _last_page([segment.text for segment in segments])
    if segments and segments[0].text == "WebShop":
        segments = segments[1:]
    if len(segments) < 2 or segments[0].text != "Instruction:":
        return None
    has_instruction = segments[1].text not in _BUTTONS
    page = ShopPage(segments[1].text if has_instruction else "")
    rest = segments[1 + has_instruction :]
    if [segment.text for segment in rest] == ["Search"]:
        page.title, page.buttons = "Search", ["Search"]
        return page
    labels = {command[6:-1] for command in commands or () if command.startswith("click[") and command.endswith("]")}
    if any(_COUNT.fullmatch(segment.text) for segment in rest[:2]):
        _read_results(page, rest)
    else:
        _read_product(page, rest, labels)
    return page


def page_text(page: ShopPage, width: int | None = None) -> str:
    """Return a page in lines for a terminal.

    Args:
        page: the page.
        width: lines are wrapped between words to so many columns; None for whole lines.
    """
    lines = [*_wrapped(page.instruction, width), ""] if page.instruction else []
    buttons = " ".join(f"[{button}]" for button in page.buttons)
    lines += _wrapped(page.title, width) if page.title else []
    for product in page.products:
        seen = " (seen)" if product.was_seen else ""
        lines += ["", *_wrapped(f"{product.asin}  {product.price}{seen}", width, "  ")]
        lines += _wrapped(product.title, width, "    ")
    for option in page.options:
        values = ", ".join(f"*{value}*" if value in option.chosen else value for value in option.values)
        lines += _wrapped(f"{option.name}: {values}", width, "  ")
    for text in page.texts:
        lines += _wrapped(text, width, "  ")
    return "\n".join([*lines, *(["", *_wrapped(buttons, width)] if buttons else [])]).strip("\n")


def _segments(observation: str) -> list[_Segment]:
    if _SEP in observation:
        return [_Segment(text.strip()) for text in observation.split(_SEP)]
    segments = []
    for line in observation.split("\n"):
        button = _BUTTON.search(line)
        text = (button[2] if button else line).strip()
        if text and not line.startswith("You have clicked "):
            segments.append(_Segment(text, bool(button and button[1])))
    return segments


def _read_results(page: ShopPage, segments: Sequence[_Segment]) -> None:
    start = next((i for i, segment in enumerate(segments) if _ASIN.fullmatch(segment.text)), len(segments))
    for segment in segments[:start]:
        if _COUNT.fullmatch(segment.text):
            page.title = segment.text
        else:
            page.buttons.append(segment.text)
    cards: list[list[_Segment]] = []
    for segment in segments[start:]:
        if _ASIN.fullmatch(segment.text):
            cards.append([segment])
        else:
            cards[-1].append(segment)
    for asin, *lines in cards:
        prices = [line.text for line in lines if _PRICE.fullmatch(line.text)]
        titles = [line.text for line in lines if not _PRICE.fullmatch(line.text)]
        page.products.append(Product(asin.text, " ".join(titles), " ".join(prices), asin.is_clicked))


def _read_product(page: ShopPage, segments: Sequence[_Segment], labels: set[str]) -> None:
    """Read the page of a product or one of its sub-pages, whose texts are all that it has beside buttons."""
    before = ""
    for segment in segments:
        text = segment.text
        if text in _BUTTONS:
            page.buttons.append(text)
            continue
        if text.lower() in labels or segment.is_clicked:
            if not page.options or before:
                page.options.append(Option(before))
                before = ""
            page.options[-1].values.append(text)
            if segment.is_clicked:
                page.options[-1].chosen.append(text)
            continue
        page.texts += [before] if before else []
        before = text
    page.texts += [before] if before else []
    if "Buy Now" in page.buttons and page.texts:
        page.title = page.texts.pop(0)


def _last_page(texts: Sequence[str]) -> ShopPage:
    page = ShopPage("", "The purchase")
    for name, label in (("asin", "product"), ("options", "options"), ("Your score (min 0.0, max 1.0)", "score")):
        if name in texts[:-1]:
            page.texts.append(f"{label}: {texts[texts.index(name) + 1]}")
    return page


def _wrapped(text: str, width: int | None, indent: str = "") -> list[str]:
    if width is None:
        return [indent + " ".join(text.split())]
    return textwrap.wrap(text, width, initial_indent=indent, subsequent_indent=indent) or [""]
