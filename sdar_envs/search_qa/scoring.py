"""Answer scoring: exact match, substring match, F1, and Search-R1's reward for exact match and format.

All compare normalised texts: lower case, no ASCII punctuation, no articles, single spaces. So "The Beatles!" is
"beatles", and an answer that is nothing but an article is empty. Accents, typographic quotes and dashes count, and a
number is not its word: published numbers were made so, and this module improves nothing.

Source: `qa_em.py` and `qa_em_format.py` of Search-R1, and the evaluation scripts of SQuAD, from which they descend, and
HotpotQA.
"""

from __future__ import annotations

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

__all__ = [
    "answer_blocks",
    "contains_answer",
    "contains_whole_answer",
    "em_with_format",
    "exact_match",
    "f1_hotpot",
    "f1_squad",
    "fold",
    "is_well_formed",
    "last_answer",
    "normalize",
    "shows_answer",
    "sub_exact_match",
]

_PUNCTUATION = str.maketrans("", "", string.punctuation)
_ARTICLES = re.compile(r"\b(a|an|the)\b")
# Letters that Unicode does not take apart into a base and a mark.
_PLAIN = str.maketrans(
    {
        "ø": "o", "Ø": "O", "ł": "l", "Ł": "L", "đ": "d", "Đ": "D", "ħ": "h", "Ħ": "H", "ı": "i", "ß": "ss",
        "æ": "ae", "Æ": "AE", "œ": "oe", "Œ": "OE", "ə": "e", "Ə": "E", "þ": "th", "Þ": "Th", "ð": "d", "Ð": "D",
        "‘": "'", "’": "'", "ʻ": "'", "ʼ": "'", "ʿ": "'", "–": "-", "—": "-", "“": '"', "”": '"',
    }
)  # fmt: skip
_CLOSED = frozenset({"yes", "no", "noanswer"})
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


# Every turn compares the same passages with the same answers.
_normalize_kept = lru_cache(maxsize=1024)(normalize)


def fold(text: str) -> str:
    """Return the text without accents and typographic quotes."""
    decomposed = unicodedata.normalize("NFKD", text.translate(_PLAIN))
    return "".join(character for character in decomposed if not unicodedata.combining(character))


def exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction equals one of the golden answers after normalisation, else 0."""
    found = normalize(prediction)
    return float(any(_normalize_kept(answer) == found for answer in answers))


def sub_exact_match(prediction: str, answers: Sequence[str]) -> float:
    """Return 1 if the prediction contains one of the golden answers, both normalised, else 0.

    Parts of words count: "party" contains "art".
    """
    found = normalize(prediction)
    return float(any(_normalize_kept(answer) in found for answer in answers))


def f1_squad(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 of normalised words over the golden answers, from 0 to 1, in SQuAD's form.

    The harmonic mean of precision and recall of the prediction's words, counted with repetition. Where one side
    has no words, 1 if neither has, else 0.

    Source: Rajpurkar et al. (2016, 2018), evaluation script of SQuAD 2.0.
    """
    found = normalize(prediction).split()
    return max((_f1(found, _normalize_kept(answer).split(), without_words=1.0) for answer in answers), default=0.0)


def f1_hotpot(prediction: str, answers: Sequence[str]) -> float:
    """Return the best F1 of normalised words over the golden answers, from 0 to 1, in HotpotQA's and FlashRAG's form.

    As SQuAD's, but `yes`, `no` and `noanswer`, on either side, match only themselves: "yes it is" scores 0 for "yes".
    And where neither side has words, 0.

    Source: Yang et al. (2018), `hotpot_evaluate_v1.py`; FlashRAG's `F1_Score` has the same rule.
    """
    found = normalize(prediction)
    best = 0.0
    for answer in answers:
        wanted = _normalize_kept(answer)
        if found == wanted or not _CLOSED.intersection((found, wanted)):
            best = max(best, _f1(found.split(), wanted.split(), without_words=0.0))
    return best


def _f1(found: list[str], wanted: list[str], *, without_words: float) -> float:
    if not found or not wanted:
        return without_words if found == wanted else 0.0
    # 2PR/(P+R) with P = shared/found and R = shared/wanted.
    return 2 * (Counter(found) & Counter(wanted)).total() / (len(found) + len(wanted))


def contains_answer(passage: str, answers: Sequence[str]) -> bool:
    """Return whether a passage contains a golden answer, both normalised; parts of words count."""
    text = _normalize_kept(passage)
    return any(_normalize_kept(answer) in text for answer in answers)


def contains_whole_answer(passage: str, answers: Sequence[str]) -> bool:
    """Return whether a passage contains a golden answer by whole words, both normalised.

    "party" does not contain "art". No passage contains a golden answer without words.
    """
    text = f" {_normalize_kept(passage)} "
    return any(f" {wanted} " in text for wanted in map(_normalize_kept, answers) if wanted)


def answer_blocks(text: str) -> list[str]:
    """Return the contents of the answer blocks of a text, in order."""
    return _blocks(text, "answer")


def last_answer(text: str) -> str | None:
    """Return the content of the last answer block of a text, stripped; None if there is no block."""
    blocks = answer_blocks(text)
    return blocks[-1].strip() if blocks else None


def _blocks(text: str, tag: str) -> list[str]:
    """Return the texts between each opening tag and the next closing one, in time linear in the text."""
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
    return any(contains_answer(block, answers) for block in _blocks(transcript, "information"))


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
