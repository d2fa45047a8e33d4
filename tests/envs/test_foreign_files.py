"""Files of others: links, named pipes, devices and files without an end are refused in words."""

import os
import socket
from pathlib import Path

import pytest

from sdar_envs.errors import CorruptData, InvalidOption, MissingData
from sdar_envs.files.foreign import LARGEST, check_target, files_below, read_foreign


@pytest.fixture
def pack(tmp_path):
    folder = tmp_path / "pack"
    (folder / "sub").mkdir(parents=True)
    (folder / "a.md").write_text("Text.")
    (tmp_path / "secret.md").write_text("Secret.")
    (tmp_path / "elsewhere").mkdir()
    return folder


def test_a_regular_file_is_read_also_by_a_link_that_stays_inside(pack):
    (pack / "sub" / "b.md").symlink_to("../a.md")
    (pack.parent / "alias").symlink_to(pack)
    for path in (pack / "a.md", pack / "sub" / "b.md", pack / "sub" / ".." / "a.md", pack.parent / "alias" / "a.md"):
        assert read_foreign(path, inside=pack) == "Text."
    assert read_foreign(pack / "a.md", inside=pack.parent / "alias") == "Text."


def test_a_file_that_the_user_names_may_be_a_link(pack):
    (pack / "link.md").symlink_to(pack.parent / "secret.md")
    assert read_foreign(pack / "link.md") == "Secret."


@pytest.mark.parametrize("target", ["/etc/passwd", "../secret.md", "../missing.md", "/dev/zero", "sub/../../secret.md"])
def test_a_link_out_of_the_folder_is_refused(pack, target):
    (pack / "link.md").symlink_to(target)
    with pytest.raises(CorruptData, match=r"link\.md is a link to .*, outside of .*pack"):
        read_foreign(pack / "link.md", inside=pack)


def test_a_link_in_the_way_is_refused_too(pack):
    (pack / "out").symlink_to(pack.parent)
    with pytest.raises(CorruptData, match="outside of"):
        read_foreign(pack / "out" / "secret.md", inside=pack)


def make_socket(path):
    with socket.socket(socket.AF_UNIX) as made:
        folder = os.open(path.parent, os.O_RDONLY)
        made.bind(f"/proc/self/fd/{folder}/{path.name}")  # the address of a socket is short
        os.close(folder)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
@pytest.mark.parametrize(
    ("make", "kind"),
    [
        (os.mkfifo, "is a named pipe; wanted a regular file"),
        (Path.mkdir, "is a folder"),
        (lambda path: path.symlink_to("x.md"), "is a symbolic link without an end"),
        (lambda path: path.symlink_to("/dev/null"), "is a device"),
        (lambda path: path.symlink_to("/dev/zero"), "is a device"),
        pytest.param(
            make_socket, "is a socket", marks=pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="no /proc")
        ),
        (lambda path: path.write_bytes(b"\xff"), "not UTF-8"),
    ],
)
def test_what_is_no_text_file_is_refused(pack, make, kind):
    make(pack / "x.md")
    with pytest.raises(CorruptData, match=rf"x\.md.* {kind}"):
        read_foreign(pack / "x.md")


def test_a_large_file_is_refused(pack):
    with open(pack / "x.md", "wb") as file:
        file.truncate(LARGEST + 1)
    with pytest.raises(CorruptData, match="is larger than 16 MiB"):
        read_foreign(pack / "x.md", inside=pack)


@pytest.mark.parametrize("name", ["no.md", "a.md/no.md"])
def test_a_missing_file_is_missing(pack, name):
    with pytest.raises(MissingData, match="there is no file"):
        read_foreign(pack / name, inside=pack)


def test_a_walk_ends_and_stays_inside(pack):
    (pack / "sub" / "loop").symlink_to("..")
    (pack / "sub" / "self").symlink_to("self")
    assert [path.name for path in files_below(pack, inside=pack)] == ["a.md", "self"]
    (pack / "out").symlink_to(pack.parent / "elsewhere")
    with pytest.raises(CorruptData, match=r"out is a link to .*elsewhere, outside of"):
        files_below(pack, inside=pack)
    assert [path.name for path in files_below(pack)] == ["a.md", "self"]


def test_nothing_is_written_through_a_link(pack):
    check_target(pack / "new" / "x.md", pack)
    (pack / "link.md").symlink_to(pack.parent / "new.md")
    (pack / "out").symlink_to(pack.parent / "elsewhere")
    with pytest.raises(InvalidOption, match=r"link\.md is a symbolic link"):
        check_target(pack / "link.md", pack)
    with pytest.raises(InvalidOption, match=r"out leads to .*elsewhere, out of"):
        check_target(pack / "out" / "x.md", pack)
