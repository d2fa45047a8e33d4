"""The example of whole episodes in Ray actors, with Ray itself."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[2] / "examples" / "ray_episodes.py"


@pytest.mark.plugs
def test_it_runs():
    pytest.importorskip("ray")
    code = f"import runpy; runpy.run_path({str(SCRIPT)!r})['main'](episodes=20, share=5)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert re.search(r"^[\d,]+ episodes and [\d,]+ steps a second with 2 actors$", done.stdout, re.MULTILINE)
