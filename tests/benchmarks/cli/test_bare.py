"""Without any extra, the verbs that should work do, and the others name the extra that they need.

The packages of all extras are installed where the tests run. A child process refuses to import anything but the
standard library, this package and its base dependencies, as it would be after `pip install sdar-envs` in an empty
environment; tests/installs tries that for real.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tomllib
from importlib.metadata import PackageNotFoundError, packages_distributions, requires
from pathlib import Path

import pytest
from helpers.bare_verbs import CORPUS, NEEDS_EXTRA, WORKS

ROOT = Path(__file__).parents[3]

# Reads the packages and the command lines as JSON from standard input; writes a list of [status, out, err].
CHILD = """
import contextlib, importlib.abc, io, json, sys, traceback

allowed, lines = json.loads(sys.stdin.read())

class Refuse(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed and top not in sys.stdlib_module_names:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Refuse())
from sdar_benchmarks.cli.main import main

results = []
for line in lines:
    out, err, sys.stdin = io.StringIO(), io.StringIO(), io.StringIO("?\\n")
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            status = main(line)
        except SystemExit as left:
            status = left.code
        except BaseException:
            traceback.print_exc()
            status = "raised"
    results.append([status, out.getvalue(), err.getvalue()])
print(json.dumps(results))
"""


def base_packages() -> set[str]:
    """Names that can be imported after an installation without extras."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        waiting = tomllib.load(file)["project"]["dependencies"]
    closure: set[str] = set()
    while waiting:
        requirement = waiting.pop()
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        if name in closure or "extra ==" in requirement:
            continue
        closure.add(name)
        try:
            waiting += requires(name) or []
        except PackageNotFoundError:  # for another system or another Python
            continue
    owners = {
        module: {owner.lower().replace("_", "-") for owner in owned}
        for module, owned in packages_distributions().items()
    }
    return {module for module, owned in owners.items() if owned & closure}


@pytest.fixture(scope="module")
def results(tmp_path_factory) -> dict[tuple[str, ...], tuple[object, str, str]]:
    folder = tmp_path_factory.mktemp("bare")
    (folder / "corpus.jsonl").write_text(CORPUS)
    (folder / "questions" / "nq").mkdir(parents=True)
    (folder / "questions" / "nq" / "test.parquet").write_bytes(b"PAR1")
    allowed = sorted(base_packages() | {"sdar_envs", "sdar_skills", "sdar_agents", "sdar_benchmarks"})
    lines = [*WORKS, *(line for _, line in NEEDS_EXTRA)]
    done = subprocess.run(
        [sys.executable, "-c", CHILD],
        input=json.dumps([allowed, lines]),
        cwd=folder,
        capture_output=True,
        text=True,
        check=True,
    )
    return dict(zip(lines, map(tuple, json.loads(done.stdout)), strict=True))


def test_the_child_can_import_no_extra() -> None:
    allowed = base_packages()
    assert {"numpy", "gymnasium", "rich", "yaml"} <= allowed
    assert not allowed & {"requests", "starlette", "torch", "bs4", "httpx2", "pyarrow", "scipy", "pytest"}


@pytest.mark.parametrize("line", WORKS, ids=" ".join)
def test_it_works_without_an_extra(results, line: tuple[str, ...]) -> None:
    status, _, err = results[line]
    assert (status, err) == (0, "")


@pytest.mark.parametrize(
    ("extra", "line"), NEEDS_EXTRA, ids=lambda value: value if isinstance(value, str) else " ".join(value)
)
def test_the_missing_extra_is_named_in_one_line(results, extra: str, line: tuple[str, ...]) -> None:
    status, out, err = results[line]
    assert (status, out) == (2, "")
    assert re.fullmatch(rf"error: [^\n]*pip install 'sdar-envs\[{extra}\]'[^\n]*\n", err), err
