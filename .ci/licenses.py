"""Check of the licences of installed packages: reads the JSON of pip-licenses, fails where one is not allowed.

    pip-licenses --from=mixed --format=json --with-system | python .ci/licenses.py [--peer]

Permissive licences and MPL-2.0 are allowed. Packages whose metadata name no licence, or one that is allowed for a
reason only, are listed here with the reason. With `--peer`, packages are allowed that only the environment of
`make peer` has, some under the GPL.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterable, Mapping
from fnmatch import fnmatch

ALLOWED = {
    name.lower()
    for name in (
        # SPDX
        *("0BSD", "Apache-2.0", "BSD-2-Clause", "BSD-3-Clause", "BSL-1.0", "CC0-1.0", "CNRI-Python", "ISC", "MIT"),
        *("MIT-0", "MIT-CMU", "MPL-2.0", "PSF-2.0", "Python-2.0", "Unlicense", "Zlib"),
        # classifiers
        *("Apache Software License", "BSD License", "ISC License (ISCL)", "MIT License", "MIT No Attribution License"),
        *("Mozilla Public License 2.0 (MPL 2.0)", "Python Software Foundation License", "The Unlicense (Unlicense)"),
        # words of authors
        *(
            "3-Clause BSD License",
            "Apache 2.0",
            "Apache 2.0 License",
            "Apache License 2.0",
            "BSD",
            "BSD 3-Clause License",
        ),
    )
}
EXCEPTIONS: Mapping[str, str] = {
    "nvidia-*": "NVIDIA's terms: CUDA libraries that torch's wheel for Linux brings; used, never given on",
    "cuda-*": "NVIDIA's terms: as nvidia-*",
}
PEER: Mapping[str, str] = {
    "agent-client-protocol": "names no licence in its metadata; its LICENSE is Apache-2.0; of Inspect",
    "textworld": "names no licence in its metadata; its LICENSE is MIT",
    "jericho": "GPL-2.0-or-later; of TextWorld",
    "fast_downward_textworld": "GPL-3.0; of TextWorld",
}


def is_allowed(licence: str) -> bool:
    """Return whether an SPDX expression, a list of classifiers or the text of a licence is allowed."""
    lines = [line.strip(" #\t") for line in licence.splitlines()]
    text = next(filter(None, lines), "")
    if text.lower() in ALLOWED:
        return True
    if "; " in text:
        return all(map(is_allowed, text.split("; ")))
    words = re.findall(r"\(|\)|[^\s()]+(?:\s+WITH\s+[^\s()]+)?", text)
    value = _either(words)
    return value and not words


def _either(words: list[str]) -> bool:
    """Return the value of `A OR B OR ...` at the start of the words, and take it off them."""
    value = _all(words)
    while words[:1] == ["OR"]:
        words.pop(0)
        value = _all(words) or value
    return value


def _all(words: list[str]) -> bool:
    value = _one(words)
    while words[:1] == ["AND"]:
        words.pop(0)
        value = _one(words) and value
    return value


def _one(words: list[str]) -> bool:
    word = words.pop(0) if words else ""
    if word != "(":
        return re.split(r"\s+WITH\s+", word)[0].lower() in ALLOWED
    value = _either(words)
    return words[:1] == [")"] and words.pop(0) == ")" and value


def problems(rows: Iterable[Mapping[str, str]], *, is_peer: bool = False) -> list[str]:
    """Return a line for each package whose licence is not allowed.

    Args:
        rows: `Name`, `Version` and `License` of each package.
        is_peer: of an environment with the extra `peer`.
    """
    known = {**EXCEPTIONS, **(PEER if is_peer else {})}
    return [
        f"{row['Name']} {row['Version']}: {' '.join(row['License'].split())[:80]!r}"
        for row in rows
        if not is_allowed(row["License"]) and not any(fnmatch(row["Name"].lower(), name) for name in known)
    ]


def main() -> int:
    """Read rows from standard input; print what is not allowed, and return 1 if there is any."""
    parser = argparse.ArgumentParser(description="Check the licences that pip-licenses lists.")
    parser.add_argument("--peer", action="store_true", help="the environment has the extra peer")
    args = parser.parse_args()
    rows = json.load(sys.stdin)
    if not rows:
        print("no packages on standard input", file=sys.stderr)
        return 1
    found = problems(rows, is_peer=args.peer)
    for line in found:
        print(f"licence not allowed: {line}", file=sys.stderr)
    if found:
        print("leave the package out, or add it to .ci/licenses.py with the reason", file=sys.stderr)
        return 1
    print(f"the licences of {len(rows)} packages are allowed")
    return 0


if __name__ == "__main__":
    sys.exit(main())
