"""``[images]`` of a study file chooses among series, levels and tiles as `read_images` does."""

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage
from pellucid.study.setup import open_images
from pellucid.study.tables import ImagesConfig


@pytest.fixture
def file(tmp_path):
    rng = np.random.default_rng(3)
    with tifffile.TiffWriter(tmp_path / "a.ome.tif", ome=True) as made:
        for place in range(2):
            metadata = {"axes": "YXS", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}
            made.write(
                rng.integers(0, 255, (32, 32 + 16 * place, 3), dtype=np.uint8), photometric="rgb", metadata=metadata
            )
    return tmp_path / "a.ome.tif"


def test_series_pixel_size_tiles_and_limit_reach_the_reader(file):
    assert open_images(ImagesConfig(path=file, series=1)).shape == (3, 32, 48)
    assert open_images(ImagesConfig(path=file, series=1, um_per_px=1)).shape == (3, 16, 24)
    tiles = open_images(ImagesConfig(path=file, series=1, um_per_px=0.5, tile=[16, 16], overlap=8))
    assert len(tiles) == 3 * 5
    with pytest.raises(BadImage, match="more than the limit"):
        open_images(ImagesConfig(path=file, series=0, limit=1000))
    with pytest.raises(BadImage, match="choose one with series="):
        open_images(ImagesConfig(path=file))
