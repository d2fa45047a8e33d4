"""Throughput of WebShop: start, search and memory for catalogues of 1,000 to 100,000 products.

Catalogues are generated, written in the official file format, and opened through `gymnasium.make(data="official")` in
processes with a cache folder of their own, which separates first from later starts. There is no ratio to the original:
it needs Java and a Python below 3.11. Times are CPU seconds; a start does not include the import of the package.
"""

from __future__ import annotations

import importlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym

import sdar_envs
from sdar_benchmarks.throughput.figures import Figures, peak_megabytes, seconds
from sdar_envs.webshop.catalog.generator import generate_catalog

__all__ = ["measure", "write_catalogue"]

_ENV_ID = "sdar/WebShop-v0"
_SIZES = (1_000, 10_000, 100_000)
_GENERATED_AT_ONCE = 10_000
_SEARCHES = 300


def measure(figures: Figures, progress: Callable[[str], None] = lambda _: None) -> None:
    """Add the figures of start, search and memory; takes about two minutes, mostly to make catalogues and indexes."""
    add = figures.add
    for size in _SIZES:
        progress(f"{size:,} products")
        with tempfile.TemporaryDirectory() as folder:
            write_catalogue(Path(folder), size)
            first = _in_new_process(folder, is_first=True)
            later = _in_new_process(folder, is_first=False)
        of = f"{size:,} products"
        add(f"search and its first page, {of}", later["search"] * 1e3, "CPU ms")
        add(f"first start, {of}", first["start"], "CPU s")
        add(f"later start, {of}", later["start"] * 1e3, "CPU ms")
        add(f"process after a first start, {of}", first["megabytes"], "MB")
        add(f"process after a later start, {of}", later["megabytes"], "MB")


def write_catalogue(folder: Path, size: int, seed: int = 2) -> None:
    """Write a generated catalogue of `size` products in the official file format.

    Args:
        folder: folder of `items_shuffle.json` and `items_ins_v2.json`.
        size: number of products, at least 50.
        seed: seed of the first 10,000; each following 10,000 have the next seed.
    """
    with open(folder / "items_shuffle.json", "w", encoding="utf-8") as file:
        separator, attributes = "[", {}
        for start in range(0, size, _GENERATED_AT_ONCE):
            # The generator makes no fewer than 50.
            made = generate_catalog(seed + start // _GENERATED_AT_ONCE, max(50, min(_GENERATED_AT_ONCE, size - start)))
            for record in made.products:
                file.write(separator + json.dumps(record))
                separator = ",\n"
            attributes.update(made.attributes)
        file.write("]")
    (folder / "items_ins_v2.json").write_text(json.dumps(attributes), encoding="utf-8")


def _in_new_process(folder: str, *, is_first: bool) -> dict[str, float]:
    command = [sys.executable, "-m", "sdar_benchmarks.throughput.webshop", folder, "first" if is_first else "later"]
    environment = os.environ | {"SDAR_CACHE_DIR": str(Path(folder, "cache"))}
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment).stdout
    measured: dict[str, float] = json.loads(output)
    return measured


def _measure_start(folder: str, *, is_first: bool) -> dict[str, float]:
    options: dict[str, Any] = {"data": "official", "data_dir": folder, "split": "test"}
    importlib.import_module("sdar_envs.webshop.env")  # otherwise timed with the first make

    started = time.process_time()
    env = gym.make(_ENV_ID, **options)
    env.reset(seed=0)
    measured = {
        "start": time.process_time() - started,
        "megabytes": peak_megabytes(),
    }
    if is_first:
        return measured
    tasks = sdar_envs.tasks(_ENV_ID, **options)
    measured["search"] = _search_seconds(env, tasks)
    return measured


def _search_seconds(env: gym.Env[str, str], tasks: tuple[sdar_envs.Task, ...]) -> float:
    """Return the mean CPU seconds of different queries, none of which was asked before."""
    spent = 0.0
    queries = [task.instruction for task in tasks[:_SEARCHES]]
    for query in queries:
        env.reset(seed=0)
        spent += seconds(lambda query=query: env.step(f"search[{query}]"), 1)  # type: ignore[misc]
    return spent / len(queries)


if __name__ == "__main__":
    print(json.dumps(_measure_start(sys.argv[1], is_first=sys.argv[2] == "first")))
