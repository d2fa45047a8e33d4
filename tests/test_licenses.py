"""The check of the licences of packages, on invented rows."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / ".ci" / "licenses.py"
spec = importlib.util.spec_from_file_location("licenses", SCRIPT)
licenses = importlib.util.module_from_spec(spec)
spec.loader.exec_module(licenses)


@pytest.mark.parametrize(
    "licence",
    [
        "MIT",
        "mit license",
        "MIT License\n\nCopyright (c) 2020 Somebody\n",
        "BSD License; MIT License",
        "Apache-2.0 AND Apache-2.0 WITH LLVM-exception AND MIT",
        "GPL-3.0-only OR MIT",
        "(MIT OR GPL-2.0-only) AND (BSD-3-Clause)",
        "MIT AND (0BSD OR (GPL-2.0-only AND MIT))",
        "Mozilla Public License 2.0 (MPL 2.0)",
    ],
)
def test_permissive_licences_are_allowed(licence):
    assert licenses.is_allowed(licence)


@pytest.mark.parametrize(
    "licence",
    [
        "UNKNOWN",
        "",
        "GPL-3.0-only",
        "AGPL-3.0-or-later",
        "LGPL-2.1-only",
        "GNU General Public License v3 (GPLv3)",
        "### GNU GENERAL PUBLIC LICENSE\n\nVersion 3, 29 June 2007 MIT",
        "MIT License; GNU General Public License v3 (GPLv3)",
        "MIT AND GPL-3.0-only",
        "GPL-3.0-only OR GPL-2.0-only AND MIT",
        "(MIT OR GPL-3.0-only",
        "MIT BSD",
        "MIT)",
        "Other/Proprietary License",
    ],
)
def test_others_are_not(licence):
    assert not licenses.is_allowed(licence)


def row(name, licence):
    return {"Name": name, "Version": "1.0", "License": licence}


def run(rows, *arguments):
    done = subprocess.run(
        [sys.executable, SCRIPT, *arguments], input=json.dumps(rows), capture_output=True, text=True, check=False
    )
    return done.returncode, done.stdout, done.stderr


def test_a_package_under_the_gpl_fails_the_check():
    rows = [row("numpy", "BSD-3-Clause"), row("readline", "GNU General Public License v3 (GPLv3)")]
    status, printed, told = run(rows)
    assert (status, printed) == (1, "")
    assert told.startswith("licence not allowed: readline 1.0: 'GNU General Public License v3 (GPLv3)'\n")
    assert run(rows, "--peer")[0] == 1
    assert run(rows[:1]) == (0, "the licences of 1 packages are allowed\n", "")
    assert run([])[0] == 1


def test_only_the_named_packages_of_the_peer_extra_may_be_under_the_gpl():
    rows = [row("jericho", "GNU General Public License v2 or later (GPLv2+)"), row("textworld", "UNKNOWN")]
    assert run(rows)[0] == 1
    assert run(rows, "--peer")[0] == 0


def test_every_exception_has_a_reason():
    assert all(len(reason) > 10 for reason in (*licenses.EXCEPTIONS.values(), *licenses.PEER.values()))
    assert licenses.problems([row("nvidia-cublas", "Other/Proprietary License")]) == []
