"""Prompts of other projects, read from clones: invented texts of the same shapes, and whole episodes.

`Shown` writes prompts as the projects do, from what is known of them, by other code than the product's.
"""

import random
from pathlib import Path

import pytest

from sdar_envs import ChatEpisode, resolve_style
from sdar_envs.errors import CorruptData, InvalidOption, MissingData, UnknownName
from sdar_envs.prompt.originals import import_prompts
from sdar_envs.search_qa.search_r1 import cut

FOLDER = "agent_system/environments/prompts"
ALFWORLD = """
ALFWORLD_TEMPLATE_NO_HIS = \"\"\"
A house, invented.\x20
Seen: {current_observation}
Allowed: [{admissible_actions}].
Think in {{braces}}, then <action> it.
\"\"\"
ALFWORLD_TEMPLATE: str = (
    "\\nWanted: {task_description} ({step_count} done, {history_length} here)\\n{action_history}\\n"
    + "Step {current_step}: {current_observation} of [{admissible_actions}] {{{{x}}}}"
)
"""
WEBSHOP = """
WEBSHOP_TEMPLATE_NO_HIS = "Buy {task_description}; page {current_observation}; [\\n{available_actions}\\n]."
WEBSHOP_TEMPLATE = '''Buy {task_description}, {step_count}, {history_length}
{action_history}
{current_step}: {current_observation}
[
{available_actions}
]'''
"""
SEARCH = """
SEARCH_TEMPLATE_NO_HIS = '''
Find out: {task_description}
'''
SEARCH_TEMPLATE = '''
Find out: {task_description} after {step_count}
{memory_context}
Go.
'''.rstrip()
"""
TEXTS = {"alfworld": ALFWORLD, "webshop": WEBSHOP, "search_qa": SEARCH}
NAMES = {"alfworld": "alfworld", "webshop": "webshop", "search_qa": "search"}
SEARCH_R1 = r'''
def make_prefix(dp, template_type):
    question = dp['question']
    if template_type == 'base':
        """Invented."""
        prefix = f"""Reply to it. \
Use {{tags}}: <think>, <search> and <answer> x </answer>. Question: {question}\n"""
    else:
        raise NotImplementedError
    return prefix

raise SystemExit("this file is not to be executed")
'''


@pytest.fixture
def clone(tmp_path):
    folder = tmp_path / "clone" / FOLDER
    folder.mkdir(parents=True)
    for suite, text in TEXTS.items():
        (folder / f"{NAMES[suite]}.py").write_text(text, encoding="utf-8")
    (folder / "__init__.py").write_text("from .alfworld import *\nraise SystemExit\n")
    return tmp_path / "clone"


def style_from(path, project, suite, target):
    target.write_text(import_prompts(path, project, suite).to_yaml(), encoding="utf-8")
    return resolve_style(str(target))


class Shown:
    """The prompts of verl-agent's environment managers."""

    def __init__(self, suite):
        names = {}
        exec(TEXTS[suite], names)  # the test's own text
        prefix = {"alfworld": "ALFWORLD", "webshop": "WEBSHOP", "search_qa": "SEARCH"}[suite]
        self.first, self.later = names[f"{prefix}_TEMPLATE_NO_HIS"], names[f"{prefix}_TEMPLATE"]
        self.suite = suite
        self.memory = []

    def begin(self, observation, info):
        self.memory, self.info = [], info
        if self.suite == "alfworld":
            self.task = observation[observation.index("Your task is to: ") + 17 :].strip()
        elif self.suite == "webshop":
            self.task = observation.split(" [SEP] ")[2]
        else:
            self.task = observation
        self.seen = self.page(observation)

    def page(self, observation):
        parts = observation.split(" [SEP] ")
        if self.suite == "webshop" and self.task in parts:
            return " [SEP] ".join(f"'{part}'" for part in parts[parts.index(self.task) + 1 :])
        return observation

    def go_on(self, action, observation, info):
        tagged = action
        if self.suite == "search_qa":
            tag, _, rest = action.partition("[")
            tagged = f"<{tag}>{rest[:-1]}</{tag}>" if rest else ""
        page = self.page(observation)
        self.memory.append((page, tagged) if self.suite == "search_qa" else (self.seen, tagged))
        self.seen, self.info = page, info

    def prompt(self, length):
        slots = {"task_description": self.task, "current_observation": self.seen, "step_count": len(self.memory)}
        if self.suite == "alfworld":
            listed = [name for name in self.info["admissible_commands"] if name != "help"]
            slots["admissible_actions"] = "\n ".join(f"'{name}'" for name in listed)
        elif self.suite == "webshop":
            available = self.info["available_actions"]
            names = ["search[<your query>]"] if available["has_search_bar"] else []
            names += [f"click[{name}]" for name in available["clickables"]]
            slots["available_actions"] = "\n".join(f"'{name}'," for name in names)
        if not self.memory or not length:
            return self.first.format(**slots)
        start = max(0, len(self.memory) - length)
        recent = list(enumerate(self.memory[start:], start + 1))
        history = "\n".join(f"[Observation {i}: '{seen}', Action {i}: '{act}']" for i, (seen, act) in recent)
        memory = "\n".join(f"Step {i}:{act} {seen}\n" for i, (seen, act) in recent)
        slots |= {"action_history": history, "memory_context": memory, "history_length": len(recent)}
        text = self.later.format(**slots, current_step=len(self.memory) + 1)
        return self.first.format(**slots) if self.suite == "webshop" and len(text) > 13_000 else text


ENVIRONMENTS = {
    "alfworld": ("sdar/ALFWorld-v0", {"max_steps": 12}),
    "webshop": ("sdar/WebShop-v0", {"max_steps": 12}),
    "search_qa": ("sdar/SearchQA-v0", {"compat": "sdar"}),
}


@pytest.mark.parametrize("history_length", [None, 0, 7])
@pytest.mark.parametrize("suite", ENVIRONMENTS)
def test_whole_episodes_read_as_in_verl_agent(clone, tmp_path, suite, history_length):
    env_id, options = ENVIRONMENTS[suite]
    style = style_from(clone, "verl-agent", suite, tmp_path / "style.yaml")
    assert style.history_length == {"alfworld": 2, "webshop": 2, "search_qa": 4}[suite]
    episode = ChatEpisode(env_id, style=style, history_length=history_length, split="train", **options)
    rng = random.Random(suite)
    shown = Shown(suite)
    lengths = []
    for seed in range(10):
        step = episode.reset(seed=seed)
        shown.begin(step.observation, episode.env_info)
        while not step.is_over:
            window = style.history_length if history_length is None else history_length
            assert step.messages == [{"role": "user", "content": shown.prompt(window)}]
            lengths.append(len(step.messages[0]["content"]))
            command = rng.choice(episode.env_info["admissible_commands"])
            if command.startswith("search[<"):
                command = "search[a hat]" if suite == "webshop" else "search[capital of Peru]"
            tag, _, rest = command.partition("[")
            block = f"<{tag}>{rest[:-1]}</{tag}>" if suite == "search_qa" else f"<action>{command}</action>"
            step = episode.step(rng.choice([f"<think>I go.</think>{block}", "nothing at all", block.upper()]))
            shown.go_on(step.action, step.observation, episode.env_info)
    assert len(lengths) > 15


def test_search_r1_is_one_growing_text(tmp_path):
    file = tmp_path / "nq_search.py"
    file.write_text(SEARCH_R1)
    style = style_from(file, "search-r1", None, tmp_path / "style.yaml")
    episode = ChatEpisode("sdar/SearchQA-v0", style=style, compat="search-r1", max_steps=5)
    for seed in range(5):
        step = episode.reset(seed=seed)
        question = step.info["instruction"]
        prompt = {
            "role": "user",
            "content": "Reply to it. Use {tags}: <think>, <search> and <answer> x </answer>. "
            f"Question: {question}{'' if question.endswith('?') else '?'}\n",
        }
        transcript = ""
        texts = [
            "<think>a</think><search>Rome</search>\n<information>made up",
            " no action ",
            "<search>{{ x }}</search>",
        ]
        for text in [*texts, "<answer>b</answer> and more </search>"]:
            assistant = [{"role": "assistant", "content": transcript}] if transcript else []
            assert step.messages == [prompt, *assistant]
            step = episode.step(text)
            transcript += cut(text) + step.observation
        assert step.ended


def test_a_file_of_its_own_and_its_folder_will_do(clone):
    assert import_prompts(clone / FOLDER / "webshop.py", "sdar").suite == "webshop"
    assert import_prompts(clone / FOLDER, "sdar", "alfworld").sources.keys() == {"alfworld.py"}
    made = import_prompts(clone, "sdar", "alfworld")
    assert made.sources.keys() == {f"{FOLDER}/alfworld.py"}
    assert made.fields["templates"]["first"].startswith("\nA house, invented. \nSeen: {{ observation }}\n")


@pytest.mark.parametrize(
    ("text", "project", "error", "match"),
    [
        (ALFWORLD + WEBSHOP, "sdar", InvalidOption, "prompts of alfworld, webshop: choose one"),
        ("X = 1", "sdar", MissingData, "none of ALFWORLD_TEMPLATE, WEBSHOP_TEMPLATE, SEARCH_TEMPLATE"),
        (
            "SEARCH_TEMPLATE = 'x'\nSEARCH_TEMPLATE_NOHIS = ''",
            "sdar",
            MissingData,
            "Did you mean 'SEARCH_TEMPLATE_NOHIS'",
        ),
        ("SEARCH_TEMPLATE = open('x')\nSEARCH_TEMPLATE_NO_HIS = ''", "sdar", CorruptData, "is no string constant"),
        (
            "SEARCH_TEMPLATE_NO_HIS = '{current_obs}'\nSEARCH_TEMPLATE = ''",
            "sdar",
            UnknownName,
            "Did you mean 'current_step'",
        ),
        ("SEARCH_TEMPLATE_NO_HIS = '{question!r}'\nSEARCH_TEMPLATE = ''", "sdar", CorruptData, "plain slots"),
        ("SEARCH_TEMPLATE_NO_HIS = '{'\nSEARCH_TEMPLATE = ''", "sdar", CorruptData, "no text for str.format"),
        ("def (", "sdar", CorruptData, "cannot be read as Python"),
        ("def make_prefix(): return 'x'", "search-r1", MissingData, "wanted a function make_prefix"),
        ("def make_prefix(q):\n    prefix = f'{q + 1}'", "search-r1", CorruptData, "wanted a name"),
        ("def make_prefix(q):\n    prefix = f'{quest}'", "search-r1", UnknownName, "Did you mean 'question'"),
        ("def make_prefix(q):\n    prefix = q()", "search-r1", CorruptData, "is no f-string"),
        ("x", "serach-r1", InvalidOption, "Did you mean 'search-r1'"),
    ],
)
def test_other_files_are_refused(tmp_path, text, project, error, match):
    file = tmp_path / "prompts.py"
    file.write_text(text)
    with pytest.raises(error, match=match):
        import_prompts(file, project)


def test_other_places_are_refused(tmp_path, clone):
    with pytest.raises(MissingData, match="there is no"):
        import_prompts(tmp_path / "none", "sdar")
    (tmp_path / "empty").mkdir()
    with pytest.raises(MissingData, match="wanted a clone"):
        import_prompts(Path(tmp_path / "empty"), "search-r1")
    with pytest.raises(UnknownName, match="Did you mean 'alfworld'"):
        import_prompts(clone, "sdar", "alfword")
    with pytest.raises(InvalidOption, match="leave it out"):
        import_prompts(clone, "search-r1", "alfworld")
