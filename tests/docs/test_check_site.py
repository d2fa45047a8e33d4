"""The check of the built site finds what is loaded from elsewhere, and links that lead nowhere."""

from __future__ import annotations

from page_makers.check_site import problems


def test_a_sound_site(tmp_path) -> None:
    (tmp_path / "a.html").write_text('<a href="b.html#there">x</a><a href="#here">y</a><p id="here">')
    (tmp_path / "b.html").write_text('<h1 id="there"><a href="https://example.org">z</a><img src="c.png">')
    assert list(problems(tmp_path)) == []


def test_faults(tmp_path) -> None:
    (tmp_path / "a.html").write_text(
        '<script src="https://example.org/x.js"></script><link rel="stylesheet" href="//example.org/x.css">'
        '<a href="c.html">x</a><a href="#nowhere">y</a>'
    )
    (tmp_path / "x.css").write_text("@import 'https://example.org/font.css';")
    found = "\n".join(problems(tmp_path))
    for word in ("x.js", "x.css", "c.html, which is not there", "#nowhere, and there is no such place", "x.css loads"):
        assert word in found
    assert list(problems(tmp_path / "none")) == [f"{tmp_path / 'none'} has no pages: build the site first."]
