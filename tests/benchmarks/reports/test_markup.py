"""Text cannot become markup, and nothing hides in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from helpers.run_folders import HOSTILE
from hypothesis import given
from hypothesis import strategies as st

from sdar_benchmarks.reports.markup import Html, attribute, details, element, inline, page, short, table

ODD = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\u200e\u200f\ud800-\udfff]")


class Seen(HTMLParser):
    """Collects the tags and the text of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.text = ""
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


def seen(markup: str) -> Seen:
    parser = Seen()
    parser.feed(markup)
    parser.close()
    return parser


@given(st.text(st.characters(exclude_categories=())))
def test_text_stays_text(text: str) -> None:
    in_page = seen(element("p", text))
    assert set(in_page.tags) <= {"p", "span"}
    assert not ODD.search(in_page.text)
    inline(text).encode()  # nothing is left that has no bytes

    in_attribute = seen(element("a", "x", href=text, aria_label=text))
    assert in_attribute.tags == ["a"]
    assert [name for name, _ in in_attribute.attributes] == ["href", "aria-label"]


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_is_not_odd_is_shown_as_it_is(text: str) -> None:
    assert seen(element("p", text)).text == text
    assert dict(seen(element("p", title=text)).attributes)["title"] == text


def test_odd_characters_are_named() -> None:
    shown = inline(HOSTILE)
    assert "&lt;/script&gt;&lt;img" in shown
    assert '<span class="odd">\\u202e</span>gnp.exe<span class="odd">\\ud800</span>' in shown
    assert "\N{SLIGHTLY SMILING FACE}" in shown
    assert attribute('"\x00') == "&quot;\\u0000"
    assert inline("a\tb\nc\N{ZERO WIDTH JOINER}") == "a\tb\nc\N{ZERO WIDTH JOINER}"


def test_markup_is_kept_and_the_first_line_break_too() -> None:
    assert inline(Html("<b>x</b>")) == "<b>x</b>"
    assert element("pre", "\nx") == "<pre>\n\nx</pre>"
    assert details("<s>", "text") == "<details><summary>&lt;s&gt;</summary>text</details>"


def test_a_table_names_its_rows_and_aligns_its_numbers() -> None:
    markup = table(("what", "n"), [("a", "1"), ("all", "1")], caption="Counts", last_is_total=True)
    assert '<th scope="row">a</th><td class="n">1</td>' in markup
    assert markup.count('<tr class="total">') == 1
    assert '<th scope="col" class="n">n</th>' in markup
    assert "<caption>Counts</caption>" in markup


def test_a_page_of_its_own_may_load_nothing() -> None:
    text = page("<title>", element("p", "x"))
    assert "default-src 'none'; style-src &#x27;sha256-" in text.replace("&#x27;none&#x27;", "'none'")
    assert "<title>&lt;title&gt;</title>" in text
    assert "<script" not in text


def test_short() -> None:
    assert short("a\n  b") == "a b"
    assert short("x" * 10, 4) == "xxxx…"
    assert len(short("word " * 10**5, 40)) <= 41
