"""The examples run as they stand, and what they print is what they are about."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parent.parent
LINES = {
    "volume": ["held-out accuracy", "× chance  gradcam", "× chance  deeplift", "× chance  occlusion"],
    "segmentation": ["overlap of outlined and true nuclei", "nucleus 0.", "deeplift", "occlusion(window=8, stride=4)"],
}


@pytest.mark.parametrize("name", LINES)
def test_an_example_runs_and_draws(name: str, tmp_path: Path) -> None:
    picture = tmp_path / "picture.png"
    done = subprocess.run(
        [sys.executable, "-W", "error", ROOT / "examples" / f"{name}.py", picture, "--quick"],
        env=os.environ | {"MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "COLUMNS": "120"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    for line in LINES[name]:
        assert line in done.stdout
    with Image.open(picture) as drawn:
        low, high = drawn.convert("L").getextrema()
    assert high - low > 100


@pytest.mark.parametrize("name", LINES)
def test_the_page_of_examples_shows_the_command_and_the_picture(name: str) -> None:
    page = (ROOT / "docs" / "examples.md").read_text()
    assert f"python examples/{name}.py" in page
    assert f"({name}.png)" in page
    assert (ROOT / "docs" / f"{name}.png").stat().st_size <= 150_000
