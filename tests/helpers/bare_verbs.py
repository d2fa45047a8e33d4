"""Command lines that work without any extra, and those that must name the extra that they need."""

from __future__ import annotations

ALFWORLD, WEBSHOP, SEARCH_QA = "sdar/ALFWorld-v0", "sdar/WebShop-v0", "sdar/SearchQA-v0"

CORPUS = "".join(
    f'{{"id": "{number}", "title": "Town {number}", "text": "A town by the river {river}."}}\n'
    for number, river in enumerate(("Aller", "Oder", "Elbe"))
)
"""What `corpus.jsonl` holds in the folder where the command lines run."""

WORKS: tuple[tuple[str, ...], ...] = (
    ("list",),
    *(("info", env_id) for env_id in (ALFWORLD, WEBSHOP, SEARCH_QA)),
    ("info", ALFWORLD, "--task", "alfworld/valid_unseen/0007"),
    *(("play", env_id, "--seed", "0") for env_id in (ALFWORLD, WEBSHOP, SEARCH_QA)),
    ("eval", ALFWORLD, WEBSHOP, SEARCH_QA, "--limit", "2", "--out", "runs/scripts"),
    ("eval", ALFWORLD, WEBSHOP, SEARCH_QA, "--limit", "2", "--agent", "random", "--out", "runs/random"),
    ("eval", ALFWORLD, WEBSHOP, SEARCH_QA, "--limit", "2", "--agent", "oracle", "--out", "runs/oracle"),
    ("eval", "--preset", "quick", "--limit", "2", "--out", "runs/quick"),
    ("report", "runs/oracle"),
    ("report", "runs/oracle", "runs/random"),
    ("compare", "runs/oracle", "runs/random"),
    ("skills", "list"),
    ("skills", "show", "alfworld/carry-one-thing"),
    ("skills", "search", "desklamp"),
    *(
        ("skills", "check", "--suite", suite, "--limit", "40", "--summary", "--strategy", "task_type")
        for suite in ("alfworld", "webshop", "search_qa")
    ),
    ("leaderboard", "commands"),
    ("demos", ALFWORLD, "--episodes", "2", "--with-skills", "0.5", "--out", "alfworld.jsonl"),
    ("demos", WEBSHOP, "--episodes", "8", "--out", "webshop.jsonl"),
    ("demos", SEARCH_QA, "--episodes", "2", "--out", "search_qa.jsonl"),
    ("train", "--list"),
    ("index", "build", "corpus.jsonl", "--out", "index"),
    ("index", "search", "index", "river Oder"),
    ("eval", SEARCH_QA, "--limit", "2", "--set", "retriever=index"),
)
"""In this order: later ones read what earlier ones wrote. `play` reads one line, `?`, from standard input."""

NEEDS_EXTRA: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("train", ("train", "--config", "alfworld_sdar_tiny")),
    ("train", ("quickstart", "--out", "study")),
    ("train", ("study", "--plan")),
    ("train", ("sft", "tiny-test", "alfworld.jsonl", "--out", "sft")),
    ("train", ("export", "runs/none")),
    ("server", ("serve", "webshop", "--port", "0")),
    ("server", ("serve", "retriever", "--port", "0")),
    ("openenv", ("serve", "openenv", ALFWORLD, "--port", "0")),
    ("client", ("eval", SEARCH_QA, "--limit", "1", "--set", "retriever=http://127.0.0.1:9/retrieve")),
    (
        "openai-compatible",
        ("eval", ALFWORLD, "--limit", "1", "--agent", "openai", "--model", "m", "--base-url", "http://127.0.0.1:9/v1"),
    ),
    ("transformers", ("eval", ALFWORLD, "--limit", "1", "--agent", "transformers", "--model", "m")),
    ("embedding", ("skills", "check", "--suite", "alfworld", "--encoder", "m")),
    ("embedding", ("index", "build", "corpus.jsonl", "--out", "other", "--engine", "faiss", "--encoder", "m")),
    ("bm25s", ("index", "build", "corpus.jsonl", "--out", "other", "--engine", "bm25s")),
    ("tantivy", ("index", "build", "corpus.jsonl", "--out", "other", "--engine", "tantivy")),
    (
        "parquet",
        (
            "eval",
            SEARCH_QA,
            "--limit",
            "1",
            "--set",
            "data=official",
            "--data-dir",
            "questions",
            "--set",
            "retriever=index",
        ),
    ),
)
"""Extra, and a command line that says in one line that it needs this extra."""
