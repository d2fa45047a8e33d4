"""Text cannot become markup, and nothing hides in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest
from helpers.run_folders import HOSTILE
from hypothesis import given
from hypothesis import strategies as st
from jinja2 import UndefinedError
from markupsafe import Markup

from sdar_benchmarks.reports import markup
from sdar_benchmarks.reports.markup import Link, Table, Tag, attribute, inline, render, short

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


def seen(page: str) -> Seen:
    parser = Seen()
    parser.feed(page)
    parser.close()
    return parser


def fill(template: str, **values: object) -> str:
    """Fill in a template as those of the package are filled in."""
    return markup._environment().from_string('{% import "parts.html" as parts %}' + template).render(values)


@given(st.text(st.characters(exclude_categories=())))
def test_text_stays_text(text: str) -> None:
    for template in ("<p>{{ text|shown }}</p>", "<p>{{ text }}</p>"):
        in_page = seen(fill(template, text=text))
        assert set(in_page.tags) <= {"p", "span"}
        assert not ODD.search(in_page.text)
    inline(text).encode()  # nothing is left that has no bytes

    in_attribute = seen(fill('<a href="{{ text }}" aria-label="{{ text }}">x</a>', text=text))
    assert in_attribute.tags == ["a"]
    assert [name for name, _ in in_attribute.attributes] == ["href", "aria-label"]


@given(st.text(st.characters(categories=["L", "N", "P", "S", "Zs"])))
def test_what_is_not_odd_is_shown_as_it_is(text: str) -> None:
    for template in ("<p>{{ text|shown }}</p>", "<p>{{ text }}</p>"):
        assert seen(fill(template, text=text)).text == text
    assert dict(seen(fill('<p title="{{ text }}"></p>', text=text)).attributes)["title"] == text


@given(st.text(st.characters(exclude_categories=())))
def test_no_part_of_a_page_lets_text_through(text: str) -> None:
    cells = [text, Link(text, text, "up"), Tag(text, text)]
    table = Table([text] * 3, [cells], caption=text)
    shown = seen(fill("{{ parts.table(t) }}{{ parts.notes([x]) }}{{ parts.pre(x) }}", x=text, t=table))
    assert set(shown.tags) <= {"div", "table", "caption", "thead", "tbody", "tr", "th", "td", "a", "span", "p", "pre"}
    assert {name for name, _ in shown.attributes} <= {
        *("class", "tabindex", "role", "aria-label", "scope", "href", "rel"),
    }
    page = seen(render("refusal.html", title=text, reason=text))
    assert page.tags.count("script") == 1  # the viewer's own


def test_odd_characters_are_named() -> None:
    shown = inline(HOSTILE)
    assert "&lt;/script&gt;&lt;img" in shown
    assert '<span class="odd">\\u202e</span>gnp.exe<span class="odd">\\ud800</span>' in shown
    assert "\N{SLIGHTLY SMILING FACE}" in shown
    assert attribute('"\x00') == "&quot;\\u0000"
    assert inline("a\tb\nc\N{ZERO WIDTH JOINER}") == "a\tb\nc\N{ZERO WIDTH JOINER}"


def test_markup_is_kept_and_the_first_line_break_too() -> None:
    assert inline(Markup("<b>x</b>")) == "<b>x</b>"
    assert fill("{{ x }}", x=Markup("<b>x</b>")) == "<b>x</b>"
    # A browser drops the first line break of a `pre`, so it gets one to drop.
    assert fill("{{ parts.pre(x) }}", x="\nx").strip() == "<pre>\n\nx</pre>"


def test_a_name_that_a_template_does_not_get_is_an_error() -> None:
    with pytest.raises(UndefinedError, match="missing"):
        fill("{{ missing }}")


def test_a_table_names_its_rows_and_aligns_its_numbers() -> None:
    table = Table(("what", "n"), [("a", "1"), ("all", "1")], caption="Counts", last_is_total=True)
    page = fill("{{ parts.table(table) }}", table=table)
    assert '<th scope="row">a</th><td class="n">1</td>' in page
    assert page.count('<tr class="total">') == 1
    assert '<th scope="col" class="n">n</th>' in page
    assert "<caption>Counts</caption>" in page


def test_a_page_of_its_own_may_load_nothing() -> None:
    text = render("self_contained.html", title="<title>")
    assert "default-src 'none'; style-src &#x27;sha256-" in text.replace("&#x27;none&#x27;", "'none'")
    assert "<title>&lt;title&gt;</title>" in text
    assert "<script" not in text


def test_short() -> None:
    assert short("a\n  b") == "a b"
    assert short("x" * 10, 4) == "xxxx…"
    assert len(short("word " * 10**5, 40)) <= 41
