"""The documentation: generated pages are complete, links lead somewhere, names and commands exist."""

from __future__ import annotations

import argparse
import dataclasses
import re
import shlex
from itertools import pairwise
from pathlib import Path
from typing import Literal

import pytest

import sdar_envs
import sdar_envs.errors
from page_makers import blocks
from page_makers.pages import command_line, errors, extras, files, info_keys, python_api, results, settings
from sdar_benchmarks.cli.main import make_parser

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
WRITTEN = sorted([*DOCS.rglob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
IDS = [path.relative_to(ROOT).as_posix() for path in WRITTEN]
GENERATED = (
    "reference/", "notebooks/", "benchmarks/speed.md", "benchmarks/large-corpora.md", "benchmarks/leaderboard.md",
    "benchmarks/study-",
)  # fmt: skip
RUN = {"python", "bash"}
READ = [*WRITTEN, *(ROOT / name for name in ("CHANGELOG.md", "SECURITY.md", "examples/README.md"))]
PARSER = make_parser()


def parsers(parser: argparse.ArgumentParser, name: str = "sdar"):
    """Every parser with its name, that of `sdar` first."""
    yield name, parser
    for below, (found, _) in command_line.actions_of(parser).items():
        yield from parsers(found, f"{name} {below}")


def test_the_command_line_has_every_verb_and_every_option() -> None:
    pages = dict(command_line.command_pages())
    for name, parser in parsers(PARSER):
        if name == "sdar":
            continue
        page = pages[f"reference/cli/sdar-{name.split()[1]}.md"]
        assert page.startswith(f"# {name}\n") or f"\n## {name}\n" in page
        for action in parser._actions:
            for option in action.option_strings:
                if option not in ("-h", "--help") and action.help is not argparse.SUPPRESS:
                    assert f"`{option}" in page, (name, option)
    for name in command_line.verbs():
        assert f"](sdar-{name}.md)" in pages["reference/cli/index.md"]


def fields_of(owner: type, prefix: str = ""):
    for path, section in settings.sections_of(owner, prefix):
        yield from ((path + field.name, section) for field in dataclasses.fields(section))


def test_the_training_configuration_has_every_setting_with_a_meaning() -> None:
    from sdar_agents.training.config import TrainConfig

    page = settings.training_page()
    sections = {path for path, _ in settings.sections_of(TrainConfig)}
    for path, _ in fields_of(TrainConfig):
        if f"{path}." not in sections:
            [row] = re.findall(rf"^\| `{re.escape(path)}` \|.*$", page, re.MULTILINE)
            assert len([cell for cell in re.split(r"(?<!\\)\|", row) if cell.strip()]) == 4, row
    assert sections >= {"", "model.", "model.lora.", "rollout.", "learner.", "skills.", "evaluation.", "log."}


def test_every_method_and_its_settings_are_there() -> None:
    from sdar_agents.algorithms import ALGORITHMS

    page = settings.method_page()
    for name, owner in ALGORITHMS.items():
        assert f"\n## {name}\n" in page
        for field in dataclasses.fields(owner):
            assert f"| `{field.name}` |" in page
    assert "| required |" not in page
    rows = [row for owner in ALGORITHMS.values() for row in settings.settings_of(owner)]
    assert all(row.meaning and row.wanted for row in rows)


def test_the_other_settings_are_complete() -> None:
    from sdar_agents.players.registry import AGENT_NAMES
    from sdar_agents.sft.demonstrations import DemonstrationSettings
    from sdar_agents.sft.settings import SFTSettings

    page = settings.sft_page()
    for owner in (SFTSettings, DemonstrationSettings):
        for row in settings.settings_of(owner):
            assert row.meaning, row
            assert f"| `{row.path}` |" in page
    agents = settings.agent_page()
    assert all(f"`{name}`" in agents or f"### {name}" in agents for name in AGENT_NAMES)
    for name in ("temperature", "max_tokens", "api_key_env", "constrained", "history_length", "skills.ledger"):
        assert f"| `{name}` |" in agents


def test_every_environment_has_its_arguments_and_splits() -> None:
    from sdar_envs.registry import env_arguments

    page = settings.environment_page()
    for env_id in sdar_envs.ENV_IDS:
        part = page[page.index(f"## {env_id}\n") :]
        for name in env_arguments(env_id):
            assert f"| `{name}` |" in part
        for split in sdar_envs.make_text_env(env_id).unwrapped.source.splits:
            assert f"| `{split}` |" in part


def test_every_key_of_info_has_a_meaning_and_no_meaning_is_left_over() -> None:
    played = info_keys.played_info()
    assert {name for info in played.values() for name in info} == set(info_keys.MEANINGS)
    page = info_keys.info_page()
    assert all(f"| `{name}` |" in page for name in info_keys.MEANINGS)


def test_file_formats_name_their_versions_and_schemas() -> None:
    page = files.files_page()
    assert {form.title for form in files.FORMATS} <= set(re.findall(r"^## (.*)$", page, re.MULTILINE))
    assert "\nVersion 2.\n" in page
    assert [path.rpartition("/")[2] for path, _ in files.schema_files()] == [
        f"{name}.schema.json" for name in files.SCHEMAS
    ]


def test_every_error_is_there() -> None:
    found = errors.error_classes()
    known = {name for name in sdar_envs.errors.__all__ if name[0].isupper()}
    assert known <= {error.name for error in found}
    assert all(error.summary for error in found)
    assert len(found) > len(known)  # those of single modules too


def test_every_extra_says_what_it_is_for() -> None:
    assert not [name for name, (purpose, _) in extras.extras().items() if not purpose and name != "dev"]


def test_public_names_are_documented() -> None:
    assert python_api.undocumented() == []
    pages = {page.path for page in python_api.PAGES}
    assert len(pages) == len(python_api.PAGES)


def test_constants_are_shown_in_a_fixed_order_and_without_the_words_of_python() -> None:
    assert python_api.shown({"b": int, "a": (dict,)}) == "{'b': int, 'a': (dict,)}"
    assert python_api.shown(frozenset({"paper", "own", "embedded"})) == "{'embedded', 'own', 'paper'}"
    assert python_api.shown(Literal["a", "b"]) == "Literal['a', 'b']"
    assert python_api.shown("a" * 300) == f"'{'a' * 198}…"


def test_public_names_without_a_docstring_are_found(tmp_path, monkeypatch) -> None:
    module = '''
from dataclasses import dataclass
from typing import NamedTuple

__all__ = ["Base", "Derived", "Pair", "Plain", "bare"]


class Base:
    """A class."""

    def act(self):
        """Act."""

    def think(self): ...


class Derived(Base):
    def act(self): ...

    @property
    def size(self): ...


class Pair(NamedTuple):
    one: int


@dataclass
class Plain:
    one: int


def bare(): ...
'''
    (tmp_path / "barely_documented.py").write_text(module)
    monkeypatch.syspath_prepend(str(tmp_path))
    names = ("Base.think", "Derived", "Derived.size", "Pair", "Plain", "bare")
    found = python_api.undocumented([python_api.ApiPage("page", "Page", ("barely_documented",))])
    assert found == [f"barely_documented.{name}" for name in names]


def test_speed_has_every_figure_of_the_records() -> None:
    import json

    page = results.speed_page()
    for name in results.SPEED_RECORDS:
        for figure in json.loads((ROOT / "benchmarks" / "studies" / name).read_text())["figures"]:
            assert f"| {figure['what']} |" in page


def test_the_page_of_large_corpora_has_a_column_for_each_engine_of_its_records() -> None:
    import json

    lines = results.large_corpora_page().splitlines()
    for name in results.LARGE_RECORDS:
        record = json.loads((ROOT / "benchmarks" / "studies" / name).read_text())
        passages = next(iter(record.values()))["passages"]
        start = next(i for i, line in enumerate(lines) if line.startswith(f"## {passages:,} passages"))
        head, _, *rows = lines[start + 2 :]
        assert head == f"| what | {' | '.join(record)} |"
        assert any(row.startswith("| index built, CPU s |") for row in rows)


def test_a_study_has_a_page_with_its_arms_and_one_with_its_curves() -> None:
    pages = dict(results.study_pages())
    page, report = pages["benchmarks/study-alfworld.md"], pages["benchmarks/study-alfworld-report.html"]
    assert page.startswith("# Study alfworld: ")
    assert "](study-alfworld-report.html)" in page
    cells = (ROOT / "benchmarks" / "studies" / "alfworld" / "cells").glob("*.json")
    for arm in {path.stem.split("-", 2)[2] for path in cells}:
        assert f"| {arm} |" in page
    assert "<polyline" in report


def links(path: Path):
    """The targets of the links of a page, outside of code."""
    text = re.sub(r"^( *)```.*?^\1```$", "", path.read_text(), flags=re.MULTILINE | re.DOTALL)
    text = re.sub(r"`[^`\n]*`", "", text)
    yield from re.findall(r"(?<=\]\()[^)\s]+|(?<=src=\")[^\"]+|(?<=srcset=\")[^\"]+|(?<=href=\")[^\"]+", text)


@pytest.mark.parametrize("path", WRITTEN, ids=IDS)
def test_links_lead_to_pages_and_files(path: Path) -> None:
    for target in links(path):
        address = "https://github.com/sdar-envs/sdar-envs/blob/main/"
        if target.startswith(address):
            assert (ROOT / target.removeprefix(address).partition("#")[0]).exists(), target
        elif not re.match(r"https?://|#|mailto:", target):
            place = (path.parent / target.partition("#")[0]).resolve()
            is_generated = DOCS in place.parents and place.relative_to(DOCS).as_posix().startswith(GENERATED)
            assert place.exists() or is_generated, target


@pytest.mark.parametrize("path", WRITTEN, ids=IDS)
def test_blocks_are_run_or_say_why_not(path: Path) -> None:
    found = list(blocks.blocks_of(path.read_text()))
    assert path.read_text().count("<!-- not run:") == sum(bool(block.reason) for block in found)
    for block in found:
        snippet = blocks.snippet_of(block, ROOT)
        if snippet is not None:
            assert snippet.is_file(), snippet
        assert not block.reason or block.language in RUN


@pytest.mark.parametrize("path", WRITTEN, ids=IDS)
def test_commands_of_pages_can_be_read(path: Path) -> None:
    for block in blocks.blocks_of(path.read_text()):
        if block.language == "bash":
            for command in blocks.commands_of(block.text):
                words = shlex.split(command)
                if "sdar" in words[:2] and "{" not in command:
                    PARSER.parse_known_args(words[words.index("sdar") + 1 :])


def commands_named_in(markdown: str):
    """The words of each command of `sdar` on a page, behind `sdar`: in blocks, and in the text."""
    for block in blocks.blocks_of(markdown):
        if block.language == "bash":
            for command in blocks.commands_of(block.text):
                yield shlex.split(command)
    text = re.sub(r"^( *)```.*?^\1```$", "", markdown, flags=re.MULTILINE | re.DOTALL)
    for command in re.findall(r"`(sdar [^`]+)`", text):
        yield shlex.split(command)


def is_setting(option: str) -> bool:
    """Whether an option is a setting of a training run, or a part of one, such as `--rollout.env_kwargs.max_steps`."""
    from sdar_agents.algorithms import ALGORITHMS
    from sdar_agents.training.config import TrainConfig

    name = option.removeprefix("--")
    found = {path for path, _ in fields_of(TrainConfig)}
    if name.startswith("algorithm."):
        found = {f"algorithm.{field.name}" for owner in ALGORITHMS.values() for field in dataclasses.fields(owner)}
    return any(name == path or name.startswith(f"{path}.") for path in found)


def unknown_in(words: list[str]) -> list[str]:
    """The verb or the options of a command, given without `sdar`, that there are not."""
    parser, rest = PARSER, words
    while rest and (below := command_line.actions_of(parser)) and not rest[0].startswith("-"):
        if rest[0] not in below:
            return [] if rest[0].isupper() else [rest[0]]
        parser, rest = below[rest[0]][0], rest[1:]
    options = [word.partition("=")[0] for word in rest if word.startswith("--")]
    known = {option for action in parser._actions for option in action.option_strings}
    has_settings = parser.prog in ("sdar train", "sdar study", "sdar quickstart")
    has_own_method = any(":" in after for before, after in pairwise(rest) if before == "--method")
    return [
        option
        for option in options
        if option not in known
        and not (has_settings and (is_setting(option) or (has_own_method and option.startswith("--algorithm."))))
    ]


@pytest.mark.parametrize("path", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_verbs_and_options_that_pages_name_exist(path: Path) -> None:
    for words in commands_named_in(path.read_text()):
        if "sdar" in words[:2]:
            assert not unknown_in(words[words.index("sdar") + 1 :]), words


def test_a_verb_or_an_option_that_is_not_there_is_found() -> None:
    page = "`sdar skills import DIR --from sdar`, `sdar plot`, `sdar train --lern 1`\n```bash\nsdar eval --oud x\n```\n"
    found = [unknown_in(words[1:]) for words in commands_named_in(page)]
    assert found == [["--oud"], ["--from"], ["plot"], ["--lern"]]


def is_there(name: str) -> bool:
    """Whether a dotted name is a module of a package, or a name in one; nothing is imported, for some want extras."""
    parts = name.split(".")
    for folder in (ROOT, ROOT / "skills", ROOT / "agents", ROOT / "benchmarks", ROOT / "docs"):
        place = folder
        for at, part in enumerate(parts):
            if not (place / part).is_dir():
                module = place / f"{part}.py"
                attributes = parts[at + 1 :]
                if not module.is_file():
                    module, attributes = place / "__init__.py", parts[at:]
                if (
                    at
                    and module.is_file()
                    and all(re.search(rf"\b{word}\b", module.read_text()) for word in attributes)
                ):
                    return True
                break
            place /= part
        else:
            return True
    return False


@pytest.mark.parametrize("path", READ, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_modules_files_and_settings_that_pages_name_exist(path: Path) -> None:
    text = path.read_text()
    spans = re.findall(r"`([^`\n]+)`", re.sub(r"^( *)```.*?^\1```$", "", text, flags=re.MULTILINE | re.DOTALL))
    if path.name != "CHANGELOG.md":  # which says what names were
        packages = "sdar_envs|sdar_skills|sdar_agents|sdar_benchmarks|data_makers|page_makers"
        assert [name for name in re.findall(rf"\b(?:{packages})(?:\.\w+)+", text) if not is_there(name)] == []
    files = [span for span in spans if re.fullmatch(r"(?:agents|benchmarks|docs|examples|skills|tests)/[\w./-]+", span)]
    assert [name for name in files if not (ROOT / name).exists()] == []
    sections = "model|rollout|learner|skills|context|evaluation|checkpoints|log|algorithm"
    settings_ = [
        name.rstrip(".") for span in spans for name in re.findall(rf"(?<![\w./])(?:{sections})\.[a-z_.]+", span)
    ]
    assert [name for name in settings_ if not is_setting(f"--{name}") and not is_section(name)] == []


def is_section(name: str) -> bool:
    from sdar_agents.training.config import TrainConfig

    return f"{name}." in {path for path, _ in settings.sections_of(TrainConfig)}


def test_a_module_that_is_not_there_is_found() -> None:
    assert is_there("sdar_envs.integrations.verl.WindowedAgentLoop")
    assert is_there("sdar_agents.engines.transformers")
    for name in ("sdar_envs.serving", "sdar_agents.rollout.rollouts", "sdar_envs.registry.taskz", "sdar_envs.Envy"):
        assert not is_there(name), name


def test_metrics_that_pages_name_exist() -> None:
    page = (DOCS / "how-to" / "debug-training.md").read_text()
    named = set(
        re.findall(r"`((?:rollout|eval|group|policy|distill|gradient|kl|optimizer|sampler|loss)/[\w/]+)`", page)
    )
    source = "".join(path.read_text() for path in (ROOT / "agents" / "sdar_agents").rglob("*.py"))
    made = {name for name in named if name.rpartition("/")[2] in source and name.partition("/")[0] in source}
    assert named == made
    assert len(named) > 20
