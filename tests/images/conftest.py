"""Small files of every kind, made on the spot, and the real ones where they lie beside the checkout."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

SHARED = Path(__file__).parents[2].parent / "shared" / "data"


@pytest.fixture
def real() -> Callable[[str], Path]:
    def path(name: str) -> Path:
        if not (SHARED / name).exists():
            pytest.skip(f"the real file {name} is not beside the checkout")
        return SHARED / name

    return path


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(7)


@pytest.fixture
def cells(tmp_path: Path, rng: np.random.Generator) -> Path:
    """Six 8-bit RGB images, masks for four of them, a manifest with both."""
    rows = ["image,label,mask,other,split,smear,area"]
    for folder in ("images", "masks", "other"):
        (tmp_path / folder).mkdir()
    for number in range(6):
        name = f"cell_{number}.png"
        Image.fromarray(rng.integers(0, 256, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "images" / name)
        mask = np.zeros((12, 10), dtype=np.uint8)
        mask[2 : 4 + number, 3:6] = 1 + number
        drawn = number < 4
        if drawn:
            Image.fromarray(mask).save(tmp_path / "masks" / name)
            Image.fromarray(mask > 0).save(tmp_path / "other" / name)
        cell = (f"masks/{name}", f"other/{name}") if drawn else ("", "")
        label = "round" if number % 2 else "burr"
        part = "test" if number > 3 else "train"
        rows.append(f"images/{name},{label},{cell[0]},{cell[1]},{part},{number // 2:03d},{1.5 * number}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    return tmp_path
