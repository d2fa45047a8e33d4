"""Readers of JSON and YAML from outside."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sdar_envs.errors import CorruptData
from sdar_envs.files.json_text import DEEPEST, open_file, parse_json, read_json_object
from sdar_envs.files.yaml_text import read_yaml


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "[" * 100_000 + "]" * 100_000, '{"a":' * 5000 + "1" + "}" * 5000, "9" * 5000, "", b"\xff"]
)
def test_json_that_is_none_is_a_value_error(text: str | bytes) -> None:
    with pytest.raises(ValueError, match=r".+"):
        parse_json(text)


def test_the_deepest_json() -> None:
    assert parse_json("[" * DEEPEST + "]" * DEEPEST)
    with pytest.raises(ValueError, match="more than 100 levels deep"):
        parse_json("[" * (DEEPEST + 1) + "]" * (DEEPEST + 1))
    assert len(parse_json("[" + ",".join(["[]"] * 1000) + "]")) == 1000


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10_000,
        "a: " * 3000,
        "&a [*a]",
        "a: &a {b: *a}",
        "\n".join(
            ["a: &a [x, x, x, x, x, x, x, x, x, x]"]
            + [f"{c}: &{c} [{', '.join([f'*{b}'] * 10)}]" for b, c in zip("abcdefghi", "bcdefghij", strict=True)]
        ),
        "a: 2001-99-99",
        "a: !!int x",
        "a: !!bool maybe",
        "a: !!timestamp x",
        "a: !!float ''",
        "? [a]\n: b",
        "a: !!python/object:os.system {}",
        "a: 1\na: 2",
        "9" * 5000,
        "a: \x00",
    ],
)
def test_yaml_that_is_refused(text: str) -> None:
    with pytest.raises(CorruptData, match="the file is no YAML that can be read"):
        read_yaml(text, "the file")


@settings(deadline=None)
@given(st.text(alphabet="[]{}&*!|>-?:,#'\"%@`ab01. \n\t~", max_size=40))
def test_any_text_is_yaml_or_corrupt(text: str) -> None:
    with suppress(CorruptData):
        read_yaml(text, "the file")


def test_yaml_with_anchors() -> None:
    assert read_yaml("a: &a {lr: 3e-6}\nb: *a\n", "the file") == {"a": {"lr": 3e-6}, "b": {"lr": 3e-6}}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no named pipes")
def test_only_regular_files_are_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "device").symlink_to("/dev/zero")
    for path in (tmp_path / "pipe", tmp_path / "device", tmp_path):
        with pytest.raises(CorruptData, match="no regular file"):
            open_file(path)
    with pytest.raises(FileNotFoundError):
        open_file(tmp_path / "none")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "there").write_text("{}")
    assert read_json_object(tmp_path / "link") == {}


def test_text_and_objects(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for content, match in ((b"\xff", "not UTF-8"), (b"[1]", r"holds \[1\]"), (b"{", "is no JSON")):
        path.write_bytes(content)
        with pytest.raises(CorruptData, match=match):
            read_json_object(path)
