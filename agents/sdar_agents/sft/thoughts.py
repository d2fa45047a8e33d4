"""Reasoning for demonstrations: sentences that lead from what a prompt shows to the expert's command.

Each sentence names something from the prompt, so that a small model can copy every word of it; the
command follows from the last one. The hidden state is not used. One fact may come from turns that the prompt no longer
shows: whether the held object was heated, cooled or cleaned.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from sdar_agents.baselines.rule_shopper import EMPTY_WORDS
from sdar_envs import Task
from sdar_envs.alfworld.instruction import Mission, read_instruction
from sdar_envs.alfworld.knowledge import RECEPTACLE_CLASSES
from sdar_envs.errors import UnsupportedGame
from sdar_envs.files.json_text import parse_json
from sdar_envs.prompt import Turn

__all__ = ["household_thought", "question_thought", "shopping_thought", "think"]

_FURNITURE = frozenset(class_.lower() for class_ in RECEPTACLE_CLASSES)
_LIMIT = re.compile(r",? and price lower than (\d+(?:\.\d+)?) dollars")
_PRICE = re.compile(r"\$(\d+(?:\.\d+)?)")
_MARK = re.compile(r"\[(?:clicked )?button_?\]")
_WORD = re.compile(r"\w[\w'’.-]*\w|\w")
_DOC = re.compile(r"^Doc \d+(?:: |\(Title: )")
_SENTENCE_END = re.compile(r"(?<=[\w\")]{2}[.!?])\s+|\n+")
_LONGEST_SENTENCE = 240
_LISTED = re.compile(r"(?:On the|The) ([a-z]+ \d+)(?: is open\. In it)?, you see ([^.]*)\.")


def think(
    task: Task, past: Sequence[Turn], observation: str, action: str, *, commands: Sequence[str], shown: int
) -> str:
    """Return reasoning that leads to a command.

    Args:
        task: the task; only its suite and its instruction are read.
        past: all past turns.
        observation: the current observation.
        action: the command.
        commands: the admissible commands.
        shown: how many of the latest turns the prompt shows.
    """
    if task.suite == "alfworld":
        try:
            mission = read_instruction(task.instruction)
        except UnsupportedGame:
            pass  # A person wrote the instruction.
        else:
            return household_thought(mission, past, observation, action, commands=commands, shown=shown)
    if task.suite == "webshop":
        return shopping_thought(task.instruction, past, observation, action)
    if task.suite == "search_qa":
        return question_thought(task.instruction, past, observation, action)
    return "The task is not done yet."


def shopping_thought(instruction: str, past: Sequence[Turn], observation: str, action: str) -> str:
    """Return the reasoning for a command in WebShop: what the page says about the wish, without the command itself.

    Args:
        instruction: the wish.
        past: as for `think`.
        observation: a page in the mode `text` or `text_rich`.
        action: as for `think`.
    """
    page = _page(observation)
    name = action.partition("[")[2].removesuffix("]").lower()
    stuck = "That changed nothing. " if past and _was_refused(past[-1], observation) else ""
    if action.startswith("search["):
        if any("Total results: 0)" in text for text in page):
            return f"{stuck}Nothing was found. Fewer words may find more."
        if any("(Total results: " in text for text in page):
            return f"{stuck}These products are not what is wanted. I search with the words of the task."
        return f"{stuck}I see no product yet. I search with the words of the task."
    wish, limit = _wish(instruction)
    if name == "buy now":
        return f"{stuck}{_price(page, limit)}The options that the task names are chosen. I buy it."
    if name in ("description", "features", "reviews", "attributes"):
        missing = _missing(wish, page)
        return f"{stuck}I do not see {' and '.join(missing[:3]) or 'all'} on this page. More may be told about it."
    if name == "next >":
        return f"{stuck}The products on this page do not fit."
    if name in ("< prev", "back to search"):
        if "Buy Now" in page or any("[button] Buy Now" in text for text in page):
            missing = _missing(wish, page)
            seen = f"I do not see {' and '.join(missing[:3])} here" if missing else "Other products may fit better"
            return f"{stuck}{seen}. I look at others."
        return f"{stuck}I have read this page. I go back."
    for number, text in enumerate(page):
        if text.lower() == name and number + 2 < len(page) and page[number + 2].startswith("$"):
            shared = _shared(wish, page[number + 1])
            has = f"Its title has {', '.join(shared[:5])}. " if shared else ""
            return f"{stuck}{has}{_price(page[number + 2 : number + 3], limit)}I look at it."
    return f"{stuck}{_option(page, name, wish)}"


def question_thought(instruction: str, past: Sequence[Turn], observation: str, action: str) -> str:
    """Return the reasoning for a command in Search-QA: the sentence of a passage that it follows from.

    Args:
        instruction: the question.
        past: as for `think`.
        observation: as for `think`.
        action: as for `think`.
    """
    wanted = action.partition("[")[2].removesuffix("]")
    asked = _tokens(instruction)
    # In the order of the prompt: what is shown now counts most.
    texts = [observation, *(turn.observation for turn in reversed(past))]
    sentences = [sentence for text in texts if "<information>" in text for sentence in _sentences(text)]
    if action.startswith("answer["):
        told = next((sentence for sentence in sentences if _holds(sentence, wanted)), None)
        return f"I read: {told} That is the answer." if told else "What I have read decides it."
    if not sentences:
        return "I have read no passage yet. I look it up."
    new = [word for word in _WORD.findall(wanted) if len(word) > 3 and word.lower() not in asked]
    names = [word for word in _WORD.findall(instruction) if word[0].isupper()]
    counts = [
        (sum(_holds(told, word) for word in new), sum(_holds(told, word) for word in names)) for told in sentences
    ]
    best = max(range(len(sentences)), key=counts.__getitem__)
    if counts[best][0]:
        return f"I read: {sentences[best]} I look up more about that."
    return "The passages do not tell all yet. I look it up."


def household_thought(
    mission: Mission, past: Sequence[Turn], observation: str, action: str, *, commands: Sequence[str], shown: int
) -> str:
    """Return the reasoning for a command in ALFWorld: the goal, what is held, what is seen, what comes next.

    Args:
        mission: the parsed instruction.
        past: as for `think`.
        observation: as for `think`.
        action: as for `think`.
        commands: as for `think`.
        shown: as for `think`.
    """
    examinable = [command.removeprefix("examine ") for command in commands if command.startswith("examine ")]
    held = next((name for name in examinable if _class(name) not in _FURNITURE), None)
    sentences = [f"I want {_goal(mission)}.", f"I hold {held or 'nothing'}."]
    place = re.sub("^(go to|open|examine) ", "", action)
    moves = place != action and _class(place) in _FURNITURE
    if held is not None and _class(held) != mission.object_class:
        sentences.append("I lay it down.")
    elif held is None or mission.lamp_class is not None:
        sought = mission.object_class if held is None or mission.lamp_class is None else mission.lamp_class
        texts = [observation, *(turn.observation for turn in reversed(past[max(0, len(past) - shown) :]))]
        remembered = [name for text in texts for at, name in _listed(text) if at == place and _class(name) == sought]
        named = _object_of(action)
        if named is not None:
            sentences.append(f"I see {named}.")
        elif not moves:
            sentences.append(f"I see no {sought}.")
        elif action.startswith("go to ") and remembered:
            sentences.append(f"I saw {min(remembered)} in {place}.")
        else:
            # The place comes right after the thing, as in the skill that says where it is kept.
            sentences.append(f"I see no {sought}. Search: {sought} {place}.")
    else:
        if mission.treatment is not None:
            is_done = any(f"{held} using" in turn.observation for turn in past) or f"{held} using" in observation
            sentences.append(f"It is {mission.treatment}." if is_done else f"It is not {mission.treatment}.")
        if moves:
            sentences.append(f"It goes to {place}.")
    return " ".join(sentences)


def _goal(mission: Mission) -> str:
    if mission.lamp_class is not None:
        return f"{mission.object_class} under {mission.lamp_class}"
    kind = "two" if mission.count == 2 else (mission.treatment or "a")
    return f"{kind} {mission.object_class} in {mission.place_class}"


def _class(name: str) -> str:
    return name.rsplit(" ", 1)[0]


def _object_of(action: str) -> str | None:
    """Return the thing that is taken or switched on."""
    found = re.match(r"(?:take|use) ([a-z]+ \d+)", action)
    return found[1] if found else None


def _listed(text: str) -> list[tuple[str, str]]:
    """Return what an observation lists: (furniture, thing)."""
    return [
        (place, name) for place, things in _LISTED.findall(text) for name in re.findall(r"\ba ([a-z]+ \d+)", things)
    ]


# -- shopping -------------------------------------------------------------------------------


def _was_refused(turn: Turn, observation: str) -> bool:
    """Return whether a turn's click named nothing on its page, and left it as it was."""
    name = turn.action.partition("[")[2].removesuffix("]").lower()
    return turn.observation == observation and name not in (text.lower() for text in _page(turn.observation))


def _page(observation: str) -> list[str]:
    """Return the visible texts of a page in the mode `text` or `text_rich`."""
    parts = observation.split(" [SEP] ") if " [SEP] " in observation else observation.split("\n")
    return [text for part in parts if (text := _MARK.sub("", part).strip())]


def _wish(instruction: str) -> tuple[str, float | None]:
    """Return what is wanted, and the price that it must be below."""
    limit = _LIMIT.search(instruction)
    return _LIMIT.sub("", instruction).strip(), float(limit[1]) if limit else None


def _price(texts: Sequence[str], limit: float | None) -> str:
    shown = next((found for text in texts if (found := _PRICE.search(text)) is not None), None)
    if shown is None:
        return ""
    if limit is None:
        return f"It costs ${shown[1]}. "
    return f"It costs ${shown[1]}, and the limit is {limit:.2f} dollars. "


def _wanted_words(wish: str) -> list[str]:
    """Return the words that say what the product is, without its options."""
    words = _WORD.findall(re.split(r" with [a-z ]+: ", wish.lower(), maxsplit=1)[0])
    return [word for word in dict.fromkeys(words) if word not in EMPTY_WORDS]


def _missing(wish: str, page: Sequence[str]) -> list[str]:
    wanted = _wanted_words(wish)
    shown = _tokens(" ".join(text for text in page if not text.startswith(wish)))
    return [word for word in wanted if not _is_among(word, shown)]


def _shared(wish: str, title: str) -> list[str]:
    shown = _tokens(title)
    return [word for word in _wanted_words(wish) if _is_among(word, shown)]


def _is_among(word: str, shown: frozenset[str]) -> bool:
    """Return whether a text has a word or another form of it: dresses, dress."""
    return word in shown or any(other.startswith(word[: max(4, len(word) - 2)]) for other in shown)


def _option(page: Sequence[str], value: str, wish: str) -> str:
    """Return why an option's value is chosen: the words of the wish that name it."""
    named = re.search(rf"(?:with|and) ([a-z ]+: {re.escape(value)})(?!\w)", wish.lower())
    if named:
        return f"The task wants {named[1].rpartition(' with ')[2]}."
    shared = [word for word in _WORD.findall(value) if word in _tokens(wish) and word not in EMPTY_WORDS]
    if shared:
        return f"The task says {' '.join(shared)}, and this page has such an option."
    return "Of the options on this page this one fits the task best."


# -- questions ------------------------------------------------------------------------------


def _tokens(text: str) -> frozenset[str]:
    return frozenset(word.lower() for word in _WORD.findall(text))


def _sentences(text: str) -> list[str]:
    """Return the sentences of the passages in an observation, without titles, short enough to be quoted."""
    body = text.partition("<information>")[2].partition("</information>")[0].strip()
    if body.startswith('{"result":'):
        body = parse_json(body)["result"]
    parts = (_DOC.sub("", part).strip(' "') for part in _SENTENCE_END.split(body))
    return [part for part in parts if part.endswith((".", "!", "?")) and len(part) <= _LONGEST_SENTENCE]


def _holds(sentence: str, text: str) -> bool:
    return re.search(rf"(?<!\w){re.escape(text)}(?!\w)", sentence, re.IGNORECASE) is not None
