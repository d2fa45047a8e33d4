"""Python processes in which no optional dependency can be imported."""

import subprocess
import sys

_OPTIONAL = [
    "bm25s",
    "bs4",
    "faiss",
    "h11",
    "httpx2",
    "matplotlib",
    "pyarrow",
    "requests",
    "sentence_transformers",
    "spacy",
    "starlette",
    "tantivy",
    "torch",
    "transformers",
    "urllib3",
    "uvicorn",
]


def without_extras(code: str) -> str:
    """Run code in a process that has none of the packages of the extras; return what it prints."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({_OPTIONAL!r}))\n"
    done = subprocess.run([sys.executable, "-c", blocked + code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()
