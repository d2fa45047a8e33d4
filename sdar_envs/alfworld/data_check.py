"""Check of the official ALFWorld games on this machine, for `sdar data check alfworld`."""

from __future__ import annotations

import hashlib
import os
import warnings
from collections.abc import Iterator

from sdar_envs.alfworld.official import ARCHIVES, OfficialGames, data_folder, read_texts
from sdar_envs.alfworld.wording import fingerprints, read_dialect
from sdar_envs.data_check import Finding, compared
from sdar_envs.errors import MissingData
from sdar_envs.storage import with_progress

__all__ = ["PUBLISHED", "check"]

PUBLISHED = {"train": 3553, "valid_seen": 140, "valid_unseen": 134}
"""Games that their files call solvable, in the releases 2.1.1 to 2.1.3."""

_VALID_TRAIN = 199
_SHOW_PROGRESS_FROM = 200


def check(data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
    """Yield what is there of the official games and what is missing.

    Args:
        data_dir: their folder, as for `ALFWorldEnv`.
    """
    try:
        folder = data_folder(data_dir)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # each file that is left out is a finding
            games = OfficialGames(folder, on_bad_file="skip")
    except MissingData as error:
        yield Finding("missing", str(error))
        yield from _archives()
        yield from (compared(f"{split}, games", 0, count) for split, count in PUBLISHED.items())
        return
    yield Finding("there", f"folder {folder}")
    is_complete = True
    for split in dict.fromkeys((*PUBLISHED, *games.splits)):
        published = PUBLISHED.get(split, _VALID_TRAIN if split == "valid_train" else None)
        finding = compared(f"{split}, games", games.splits.get(split) or 0, published)
        is_complete &= finding.state != "missing"
        yield finding
    yield from (Finding("missing", f"not played: {reason}") for reason in games.left_out.values())
    if not is_complete:
        yield from _archives()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        more = OfficialGames(folder, on_bad_file="skip", solvable="any")
    for split, count in more.splits.items():
        others = (count or 0) - (games.splits.get(split) or 0)
        if others:
            yield Finding("note", f"{split}, games that can be won without being marked (solvable='any'): {others:,}")
    yield from _fingerprints(games)


def _archives() -> Iterator[Finding]:
    for address, content in ARCHIVES.items():
        yield Finding("note", f"from {address}: {content}")


def _fingerprints(games: OfficialGames) -> Iterator[Finding]:
    """Yield how many games have which rules and words, and a digest of each split's games."""
    kinds: dict[tuple[str, str, str], int] = {}
    tasks = [games.task(split, index) for split, size in games.splits.items() for index in range(size or 0)]
    digests = {split: hashlib.sha256() for split in games.splits}
    for task in with_progress(tasks, "Reading ALFWorld games", total=len(tasks), show_from=_SHOW_PROGRESS_FROM):
        texts = read_texts(task.data["gamefile"])
        digests[task.split].update(task.id.encode("utf-8", "surrogateescape"))
        for text in texts:
            digests[task.split].update(hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest())
        domain, grammar, _ = texts
        kind = (*fingerprints(domain, grammar), read_dialect(domain, grammar).wording)
        kinds[kind] = kinds.get(kind, 0) + 1
    for (domain, grammar, wording), count in sorted(kinds.items()):
        yield Finding("note", f"domain {domain}, grammar {grammar}, wording {wording!r}: games: {count:,}")
    for split, digest in digests.items():
        yield Finding("note", f"{split}, fingerprint: {digest.hexdigest()[:32]}")
