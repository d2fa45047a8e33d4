"""Everything that loads models, tensors and arrays says that it runs no code that comes with them."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = ("sdar_envs", "skills/sdar_skills", "agents/sdar_agents", "benchmarks", "examples")
WANTED = {
    "from_pretrained": {"trust_remote_code": False},
    "SentenceTransformer": {"trust_remote_code": False},
    "CrossEncoder": {"trust_remote_code": False},
    "torch.load": {"weights_only": True},
    "np.load": {"allow_pickle": False},
    "BM25.load": {"allow_pickle": False},
}
FORBIDDEN = {"pickle.load", "pickle.loads", "yaml.unsafe_load", "joblib.load"}
LAST = {name.rpartition(".")[2] for name in (*WANTED, *FORBIDDEN)}


def calls(source: str) -> Iterator[tuple[str, int, dict[str, object]]]:
    """The calls that load something, with line and constant arguments."""
    for node in ast.walk(ast.parse(source)):
        last = getattr(node.func, "attr", getattr(node.func, "id", "")) if isinstance(node, ast.Call) else ""
        is_copy = last == "loads" and ast.unparse(node).startswith("pickle.loads(pickle.dumps(")
        if isinstance(node, ast.Call) and last in LAST and not is_copy:
            name = ast.unparse(node.func)
            ends = [wanted for wanted in (*WANTED, *FORBIDDEN) if name == wanted or name.endswith(f".{wanted}")]
            for end in ends:
                yield end, node.lineno, {k.arg: getattr(k.value, "value", None) for k in node.keywords if k.arg}


def faults(source: str) -> list[str]:
    found = []
    for name, line, arguments in calls(source):
        if name in FORBIDDEN:
            found.append(f"line {line}: {name} runs what it reads")
        found += [
            f"line {line}: {name} wants {key}={value}"
            for key, value in WANTED.get(name, {}).items()
            if key not in arguments or arguments[key] is not value
        ]
    return found


def test_loading_runs_no_code():
    files = [path for folder in FOLDERS for path in sorted((ROOT / folder).rglob("*.py"))]
    sources = {str(path.relative_to(ROOT)): path.read_text(encoding="utf-8") for path in files}
    sources = {path: source for path, source in sources.items() if any(f"{name}(" in source for name in LAST)}
    found = {path: faults(source) for path, source in sources.items()}
    assert {path: lines for path, lines in found.items() if lines} == {}
    names = {name for source in sources.values() for name, *_ in calls(source)}
    assert names == {"from_pretrained", "SentenceTransformer", "torch.load", "np.load", "BM25.load"}


@pytest.mark.parametrize(
    "source",
    [
        "AutoTokenizer.from_pretrained(x)",
        "type(model).from_pretrained(x, trust_remote_code=None)",
        "torch.load(x, weights_only=False)",
        "np.load(x)",
        "pickle.load(file)",
    ],
)
def test_a_fault_is_found(source):
    assert len(faults(source)) == 1
