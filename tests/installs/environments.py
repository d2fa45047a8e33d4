"""Fresh virtual environments with the wheel and one extra, for every Python on this machine."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from helpers.bare_verbs import CORPUS

ROOT = Path(__file__).parents[2]
VERSIONS = ("3.11", "3.12", "3.13")


def find_python(version: str) -> str | None:
    """Return an interpreter of this version that runs, or None."""
    named = shutil.which(f"python{version}")
    managed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for candidate in [sys.executable, named, *map(str, managed)]:
        if candidate is None:
            continue
        # A shim of pyenv can be there without the Python behind it.
        code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
        done = subprocess.run([candidate, "-c", code], capture_output=True, text=True, check=False)
        if done.stdout.strip() == version:
            return candidate
    return None


@dataclass(frozen=True)
class Environment:
    """A virtual environment, and a folder to work in.

    Attributes:
        python: its interpreter.
        folder: where command lines run; it holds corpus.jsonl, and is home.
    """

    python: Path
    folder: Path

    def sdar(self, *line: str, stdin: str = "") -> tuple[int, str, str]:
        """Run `sdar`; return status, output and errors."""
        done = subprocess.run(
            [self.python.parent / "sdar", *line],
            cwd=self.folder,
            env=self._variables(),
            input=stdin,
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        return done.returncode, done.stdout, done.stderr

    def run(self, code: str) -> str:
        """Run Python code; return what it prints."""
        done = subprocess.run(
            [self.python, "-c", code],
            cwd=self.folder,
            env=self._variables(),
            capture_output=True,
            text=True,
            check=False,
            timeout=600,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    @contextmanager
    def serving(self, *line: str) -> Iterator[str]:
        """Run a verb that opens a server; give the address."""
        process = subprocess.Popen(
            [self.python.parent / "sdar", *line],
            cwd=self.folder,
            env=self._variables(),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        try:
            said = process.stdout.readline()
            assert " at http://" in said, said + process.stderr.read()
            yield said.split(" at ")[1].split()[0]
        finally:
            process.send_signal(signal.SIGINT)
            _, errors = process.communicate(timeout=60)
        assert (process.returncode, errors) == (0, "stopped\n"), (process.returncode, errors)

    def _variables(self) -> Mapping[str, str]:
        kept = {name: os.environ[name] for name in ("LANG", "LC_ALL", "TMPDIR") if name in os.environ}
        return {**kept, "PATH": "/usr/bin:/bin", "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}


def create(python: str, folder: Path, base: Environment | None = None) -> Environment:
    """Make an environment, empty or with the packages of another one of the same Python, as hard links."""
    subprocess.run([python, "-m", "venv", "--without-pip", str(folder / "venv")], check=True)
    work = folder / "work"
    work.mkdir()
    (work / "corpus.jsonl").write_text(CORPUS)
    environment = Environment(folder / "venv" / "bin" / "python", work)
    if base is not None:
        # What an installation of the base dependencies gives, a second time and in no time.
        [packages] = base.python.parent.parent.glob("lib/python*/site-packages")
        [target] = environment.python.parent.parent.glob("lib/python*/site-packages")
        shutil.copytree(packages, target, copy_function=os.link, dirs_exist_ok=True)
        script = (base.python.parent / "sdar").read_text().replace(str(base.python), str(environment.python))
        (environment.python.parent / "sdar").write_text(script)
        (environment.python.parent / "sdar").chmod(0o755)
    return environment


def install(environment: Environment, requirements: Sequence[str]) -> None:
    """Install requirements with the versions of constraints.txt."""
    pip = [sys.executable, "-m", "pip", "--python", str(environment.python), "install"]
    constraints = ["--constraint", str(ROOT / "constraints.txt")]
    subprocess.run(
        [*pip, "--quiet", "--disable-pip-version-check", *constraints, *requirements],
        check=True,
        stderr=subprocess.PIPE,
        text=True,
    )


def build(folder: Path) -> tuple[Path, Path]:
    """Build the source distribution and the wheel of this checkout; return both."""
    with open(ROOT / "pyproject.toml", "rb") as file:
        requirements = tomllib.load(file)["build-system"]["requires"]
    builder = create(sys.executable, folder)
    install(builder, requirements)
    command = [builder.python, "-m", "hatchling", "build", "-d", str(folder / "dist")]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    [source] = (folder / "dist").glob("*.tar.gz")
    [wheel] = (folder / "dist").glob("*.whl")
    return source, wheel
