"""Readings of Search-QA questions: what the page and the explanation say is what the readings say."""

from pathlib import Path

from data_makers.search_qa_invented import readings as maker
from sdar_envs.registry import tasks

EXPLANATION = Path(__file__).parents[2] / "docs" / "explanation" / "search-qa-corpora.md"


def test_page_counts_verdicts_against_passages_apart_from_what_the_world_knows():
    first, second, third = tasks("sdar/SearchQA-v0", corpus="films", split="test")[:3]

    def row(task, **more):
        answer = task.data["answers"][0]
        return {"corpus": "films", "split": "test", "question": task.instruction, "answer": answer, **more}

    rows = [
        row(first, verdict="right", world="another film"),
        row(second, verdict="clumsy", note="two full stops"),
        row(third, verdict="weak", note="corrected", mended=True),
        row(third, verdict="right", world="another writer") | {"answer": "an answer of an older release"},
    ]
    page = maker.page(rows)
    assert "| films/test | 4 | 2 | 1 | 0 | 0 | 1 | 3 | 1 | 1 |" in page
    assert "Of the 3 questions of `films/test` that are still there, 2 are right against the passages" in page
    assert "the world knows another answer to 1 (33 %)" in page
    assert f"| films/test | {second.instruction} | clumsy | two full stops |" in page
    assert f"| films/test | {third.instruction} | an answer of an older release | another writer |" in page


def test_explanation_gives_the_share_of_films_to_which_the_world_knows_another_answer():
    rows = maker.readings()
    kept = maker.still_there(rows, "films", "test")
    known = [row for row in kept if "world" in row]
    assert len(kept) >= 140
    text = EXPLANATION.read_text()
    assert f"{len(rows)} questions were read against their passages" in text
    assert f"To {len(known)} of {len(kept)} questions that were read ({100 * len(known) / len(kept):.0f} %)" in text
    assert {row["verdict"] for row in rows} <= set(maker.VERDICTS)
    assert all("note" in row for row in rows if row["verdict"] != "right")
