"""Maker of `refused_words.txt.gz`: the words that the grammar of invented names makes and that exist.

    python -m data_makers.search_qa_invented.refused_words --wordnet FOLDER --names FOLDER

Run it from a checkout, with `PYTHONPATH=benchmarks`. `--wordnet` is the folder of WordNet 3.0's `index.noun` and its
like (Debian: `wordnet-base`, in /usr/share/wordnet), `--names` that of the package names 0.3.0 with the lists of the
United States' census of 1990.
"""

from __future__ import annotations

import argparse
from pathlib import Path

from data_makers.search_qa_facts.table import as_gzip, write_bytes
from sdar_envs.errors import MissingData
from sdar_envs.search_qa.invented.names import GRAMMAR, REFUSED

__all__ = ["existing_words", "main"]

_WORDNET = ("index.noun", "index.verb", "index.adj", "index.adv")
_NAMES = ("dist.all.last", "dist.female.first", "dist.male.first")


def existing_words(wordnet: Path, names: Path) -> set[str]:
    """Return the lemmas of WordNet, word by word, and the names of the census, in lower case.

    Raises:
        MissingData: a file is not there.
    """
    words: set[str] = set()
    for folder, files in ((wordnet, _WORDNET), (names, _NAMES)):
        for name in files:
            path = folder / name
            if not path.is_file():
                raise MissingData(f"there is no {path}: name the folder that has it.")
            for line in path.read_text(encoding="latin-1").splitlines():
                if line.strip() and not line.startswith(" "):
                    words.update(line.split()[0].lower().replace("-", "_").split("_"))
    return words


def main() -> None:
    """Write the file and print how many words it holds."""
    parser = argparse.ArgumentParser(prog="python -m data_makers.search_qa_invented.refused_words", description=__doc__)
    parser.add_argument("--wordnet", type=Path, required=True, metavar="FOLDER")
    parser.add_argument("--names", type=Path, required=True, metavar="FOLDER")
    arguments = parser.parse_args()
    words = existing_words(arguments.wordnet, arguments.names)
    refused = sorted(word for word in words if GRAMMAR.fullmatch(word))
    content = as_gzip("".join(f"{word}\n" for word in refused).encode("ascii"))
    write_bytes(Path(str(REFUSED)), content)
    print(f"{len(refused)} of {len(words)} words, {len(content)} bytes")


if __name__ == "__main__":
    main()
