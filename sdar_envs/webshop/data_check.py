"""Check of the official WebShop catalogue on this machine, for `sdar data check webshop`."""

from __future__ import annotations

import os
from collections.abc import Iterator

from sdar_envs.data_check import Finding, compared
from sdar_envs.errors import CorruptData, MissingData
from sdar_envs.webshop.catalog.loading import CatalogFiles, open_catalog
from sdar_envs.webshop.goals import Goals

__all__ = ["check"]

_SMALL = {"products": 1000, "synthetic": 6910, "human": 13}
_FULL_HUMAN = 12_087
_SOURCE = (
    "from Google Drive, by setup.sh of github.com/princeton-nlp/WebShop (MIT): items_shuffle.json and "
    "items_ins_v2.json (1.18 million products), or items_shuffle_1000.json and items_ins_v2_1000.json; "
    "items_human_ins.json for goals='human'"
)


def check(data_dir: str | os.PathLike[str] | None = None) -> Iterator[Finding]:
    """Yield what is there of the official catalogue and what is missing.

    Args:
        data_dir: the files' folder, as for `WebShopEnv`.
    """
    try:
        files = CatalogFiles.find(None if data_dir is None else os.fspath(data_dir))
    except MissingData as error:
        yield Finding("missing", str(error))
        yield Finding("note", _SOURCE)
        return
    yield Finding("there", f"{files.products.name} and {files.attributes.name} in {files.products.parent}")
    if files.human is None:
        yield Finding("missing", "items_human_ins.json, for goals='human'")
        yield Finding("note", _SOURCE)
    else:
        yield Finding("there", f"{files.human.name}, for goals='human'")
    is_small = "_1000.json" in files.products.name
    try:
        catalog = open_catalog(files, human=files.human is not None)
        published = _SMALL if is_small else {"human": _FULL_HUMAN}
        yield compared("products", len(catalog), published.get("products"))
        yield compared("goals of the template", len(Goals(catalog)), published.get("synthetic"))
        if files.human is not None:
            yield compared("goals by people", len(Goals(catalog, "human")), published["human"])
    except CorruptData as error:
        yield Finding("missing", str(error))
        yield Finding("note", _SOURCE)
        return
    yield Finding("note", f"fingerprint: {catalog.fingerprint}")
