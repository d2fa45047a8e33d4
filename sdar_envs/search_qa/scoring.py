"""Answer scoring: exact match, substring match, F1, and Search-R1's reward for exact match and format.

All compare normalised texts: lower case, no ASCII punctuation, no articles, single spaces. So "The Beatles!" is
"beatles", and an answer that is nothing but an article is empty. Accents, typographic quotes and dashes count, and a
number is not its word: published numbers were made so, and this module improves nothing.

Source: `qa_em.py` and `qa_em_format.py` of Search-R1, and SQuAD's evaluation script, from which they descend.
"""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

__all__ = [
    "em_with_format",
    "exact_match",
    "f1",
    "is_well_formed",
    "last_answer",
    "normalize",
    "shows_answer",
    "sub_exact_match",
]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
_TAG = re.compile(r"(</?(?:think|search|information|answer)>)")

# What may follow what in a well-formed transcript: (where we are, the tag that comes) -> where we are then.
_STEPS = {
    ("start", "<think>"): "in think",
    ("in think", "</think>"): "after think",
    ("after think", "<search>"): "in search",
    ("in search", "</search>"): "after search",
    ("after search", "<information>"): "in information",
    ("in information", "</information>"): "after information",
    ("after information", "<think>"): "in think",
    ("after think", "<answer>"): "in answer",
    ("in answer", "</answer>"): "end",
}


def normalize(text: str) -> str:
    """Return the normalised text: lower case, without ASCII punctuation, articles and repeated spaces."""
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_PUNCTUATION)).split())


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction equals one of the golden answers after normalisation, else 0."""
    found = normalize(prediction)
    return float(any(normalize(answer) == found for answer in answers))


def sub_exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if one of the golden answers stands somewhere in the prediction after normalisation, else 0.

    Parts of words count: "art" stands in "party".
    """
    found = normalize(prediction)
    return float(any(normalize(answer) in found for answer in answers))


def f1(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 of normalised words over the golden answers, from 0 to 1.

    The harmonic mean of precision and recall of the prediction's words, counted with repetition. Where one side
    has no words, 1 if neither has, else 0.

    Source: Rajpurkar et al. (2016), SQuAD.
    """
    found = Counter(normalize(prediction).split())
    return max((_f1(found, Counter(normalize(answer).split())) for answer in answers), default=0.0)


def _f1(found: Counter[str], wanted: Counter[str]) -> float:
    if not found or not wanted:
        return float(found == wanted)
    # 2PR/(P+R) with P = shared/found and R = shared/wanted.
    return 2 * (found & wanted).total() / (found.total() + wanted.total())


def last_answer(text: str) -> str | None:
    """Return what stands in the last answer block of a text, stripped; None if there is no block."""
    blocks = _blocks(text, "answer")
    return blocks[-1].strip() if blocks else None


def _blocks(text: str, tag: str) -> list[str]:
    """Return what stands between a tag and the next one that closes it, in time linear in the text."""
    blocks = []
    begin = text.find(f"<{tag}>")
    while begin >= 0:
        begin += len(f"<{tag}>")
        end = text.find(f"</{tag}>", begin)
        if end < 0:
            break
        blocks.append(text[begin:end])
        begin = text.find(f"<{tag}>", end)
    return blocks


def is_well_formed(transcript: str) -> bool:
    """Return whether a transcript is think, search, information, ..., think, answer, with nothing in between.

    Args:
        transcript: what the model wrote and was shown, from its first character to its last.
    """
    state = "start"
    for part in _TAG.split(transcript):
        if _TAG.fullmatch(part):
            following = _STEPS.get((state, part))
            if following is None:
                return False
            state = following
        elif part.strip() and not state.startswith("in "):
            return False
    return state == "end"


def shows_answer(transcript: str, answers: Sequence[str]) -> bool:
    """Return whether an information block of a transcript contains a golden answer, both normalised."""
    blocks = [normalize(block) for block in _blocks(transcript, "information")]
    return any(normalize(answer) in block for block in blocks for answer in answers)


def em_with_format(*, em: float | None, well_formed: bool, shows: bool) -> float:
    """Return Search-R1's reward for exact match and format, from 0 to 1.

    | | exact match | another answer, or none | another answer, malformed | no answer, malformed |
    |---|---|---|---|---|
    | | 1, or 0.8 if malformed | 0.2, or 0.3 if a passage showed a golden answer | 0.1 | 0 |

    Args:
        em: whether the answer is right (1) or wrong (0); None if there was none.
        well_formed: whether the episode kept to the format.
        shows: whether a passage contained a golden answer.

    Source: `compute_score_em` in Search-R1's `qa_em_format.py` with the weights structure 0.2, retrieval 0.1 and final
    format 0.1. Search-R1's v0.3 scripts set the retrieval weight to 0, its YAML file all three.
    """
    if em == 1.0:
        return 1.0 if well_formed else 0.8
    if well_formed:
        return 0.3 if shows else 0.2
    return 0.0 if em is None else 0.1
