"""Text renderings of the shop's pages, equal in every character to the original's `text` and `text_rich`.

A page's text is the sequence of the text nodes that a browser finds in the original's HTML: empty ones do not
exist, and one of nothing but blanks is a single blank, or nothing if it has a line break.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import NamedTuple

from sdar_envs.webshop.catalog.products import Product
from sdar_envs.webshop.session import SUB_PAGES, Session
from sdar_envs.webshop.shop import Shop

__all__ = ["Pages", "options_as_json"]

_SEP = " [SEP] "
_BLANKS = " \t\n\f\r"
_HTML_SAFE = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "'": "\\u0027"})


class _Item(NamedTuple):
    """A product's own page without the instruction."""

    text: str
    lines: tuple[tuple[str, bool], ...]  # line without brackets, whether it is the label of an option's value


class _Card(NamedTuple):
    """A product in a list of results."""

    text: str
    rich: str
    rich_visited: str


class Pages:
    """Renderer of sessions in one shop, cached per product.

    Args:
        shop: the shop.
        sub_pages: the buttons of a product's page that lead to its sub-pages: `Controls.sub_pages`.
    """

    def __init__(self, shop: Shop, sub_pages: Sequence[str] = SUB_PAGES[:-1]) -> None:
        self._products = shop.products
        self._sub_pages = sub_pages
        # 4096 items take about 20 MB, 16384 cards about as much.
        self._item_of = lru_cache(maxsize=4096)(self._item)
        self._card_of = lru_cache(maxsize=1 << 14)(self._card)

    def text(self, session: Session) -> str:
        """Return the page that a session is on as one line, its parts joined by ` [SEP] `."""
        state = session.state
        if state.page_name == "done":
            return _SEP.join(node.strip() for node in self._done(session))
        head = _head(session.goal.instruction)
        if state.page_name == "item_page":
            return head + self._item_of(state.product).text
        if state.page_name == "search_results":
            count = f"Page {state.page} (Total results: {len(state.results)})"
            previous = f"< Prev{_SEP}" if state.page > 1 else ""
            card = self._card_of
            cards = "".join([card(number).text for number in session.listed()])
            return f"{head}{_SEP}Back to Search{_SEP}{count}{_SEP}{previous}Next >{cards}"
        if state.page_name == "index":
            return f"WebShop{_SEP}{head}{_SEP}Search"
        return _SEP.join([head, "Back to Search", "< Prev", *(node.strip() for node in self._sub_page(session))])

    def rich_text(self, session: Session) -> str:
        """Return the page that a session is on in lines, with its buttons marked."""
        state = session.state
        if state.page_name == "done":
            return "".join(f"{node}\n" for node in self._done(session))
        node = _node(session.goal.instruction)
        instruction = "" if node is None else f"{node}\n"
        if state.page_name == "index":
            return f"WebShop\nInstruction: \n{instruction}[button] Search [button_]\n"
        head = f"Instruction:\n{instruction}"
        if state.page_name == "item_page":
            url = session.url()
            clicked, lines = [], []
            for line, is_label in self._item_of(state.product).lines:
                if not is_label:
                    lines.append(f"{line}\n")
                elif f'"{line}"' in url:
                    clicked.append(f"You have clicked {line}.\n")
                    lines.append(f"  [clicked button] {line} [clicked button_]\n")
                else:
                    lines.append(f"  [button] {line} [button_]\n")
            return "".join([*reversed(clicked), head, *lines])
        head += "[button] Back to Search [button_]\n"
        if state.page_name == "item_sub_page":
            return "".join([head, "[button] < Prev [button_]\n", *(f"{node}\n" for node in self._sub_page(session))])
        count = f"Page {state.page} (Total results: {len(state.results)})\n"
        previous = "[button] < Prev [button_]\n" if state.page > 1 else ""
        cards = []
        for number in session.listed():
            card = self._card_of(number)
            cards.append(card.rich_visited if self._products[number].asin in state.visited else card.rich)
        return f"{head}{count}{previous}[button] Next > [button_]\n{''.join(cards)}"

    # -- per product ------------------------------------------------------------------------

    def _item(self, number: int) -> _Item:
        product = self._products[number]
        lines: list[tuple[str, bool]] = [
            ("[button] Back to Search [button_]", False),
            ("[button] < Prev [button_]", False),
        ]
        segments = ["Back to Search", "< Prev"]

        def show(text: str, is_label: bool = False) -> None:
            node = _node(text)
            if node is not None:
                segments.append(node.strip())
                lines.append((node, is_label))

        for name, values in product.options:
            show(name)
            for value in values:
                show(value, True)
        for text in (product.title, f"Price: {product.price_tag}", "Rating: N.A."):
            show(text)
        names = [*self._sub_pages, "Buy Now"]
        segments += names
        lines += [(f"[button] {name} [button_]", False) for name in names]
        return _Item(_SEP + _SEP.join(segments), tuple(lines))

    def _card(self, number: int) -> _Card:
        product = self._products[number]
        nodes = [node for node in map(_node, (product.title, product.price_tag)) if node is not None]
        tail = "".join(f"{node}\n" for node in nodes)
        return _Card(
            _SEP + _SEP.join([product.asin.strip(), *(node.strip() for node in nodes)]),
            f"\n[button] {product.asin} [button_]\n{tail}",
            f"\n[clicked button] {product.asin} [clicked button_]\n{tail}",
        )

    def _sub_page(self, session: Session) -> list[str]:
        texts = _sub_page_texts(self._products[session.state.product], session.state.sub_page)
        return [node for text in texts if (node := _node(text)) is not None]

    def _done(self, session: Session) -> list[str]:
        state = session.state
        assert state.purchase is not None
        return [
            *("Thank you for shopping with us!", "Your code: ", "None", " (Paste it in your MTurk interface.)"),
            *("Purchased", "asin", self._products[state.product].asin, "options", options_as_json(state.options)),
            *("attrs", "None", "category", "None", "query", "None", "product category", "None"),
            *("Target", "asin", "options", "attrs", "price upper", "instuction text", "category", "product category"),
            *("query", "Goal ", "None", "Reward", "Your score (min 0.0, max 1.0)", str(state.purchase.score)),
            *("Reward Details ", "None"),
        ]


def options_as_json(options: Mapping[str, str]) -> str:
    """Return chosen options as the original's last page prints them: JSON with the escapes of Flask's `tojson`."""
    return json.dumps(dict(options), sort_keys=True).translate(_HTML_SAFE)


@lru_cache(maxsize=4096)
def _head(instruction: str) -> str:
    node = _node(instruction)
    return "Instruction:" if node is None else f"Instruction:{_SEP}{node.strip()}"


def _node(text: str) -> str | None:
    """Return the text node that a text becomes between two tags; None if it does not show."""
    if text.strip(_BLANKS):
        return text
    return None if not text or "\n" in text else " "


def _sub_page_texts(product: Product, name: str) -> list[str]:
    if name == "Description":
        return [product.description]
    if name == "Features":
        return [f" {bullet}" for bullet in product.bullets]
    if name == "Reviews":
        return []
    attributes = [f" {attribute}" for attribute in product.attributes]
    return [*attributes, product.category, product.query, product.product_category]
