"""CZI files as Zeiss's own library writes them, read through bioio's plugin; skipped where the two are not installed."""

import numpy as np
import pytest

from pellucid.errors import BadImage
from pellucid.images import read_images

czi = pytest.importorskip("pylibCZIrw.czi")
pytest.importorskip("bioio_czi")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of the plugin's own libraries


def test_channels_depth_pixel_size_names_and_values_of_a_czi(tmp_path, rng):
    pixels = rng.integers(0, 4000, (2, 3, 40, 56), dtype=np.uint16)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for channel, depth in np.ndindex(2, 3):
            file.write(data=pixels[channel, depth, :, :, None], plane={"C": channel, "Z": depth, "T": 0})
        file.write_metadata("a", channel_names={0: "DAPI", 1: "actin"}, scale_x=0.25e-6, scale_y=0.25e-6, scale_z=2e-6)
    images = read_images(tmp_path / "a.czi")
    assert (images.record.axes, images.shape) == ("CZYX", pixels.shape)
    assert images.record.spacing == pytest.approx((2.0, 0.25, 0.25))
    assert images.record.channels == ("DAPI", "actin")
    np.testing.assert_allclose(images.tensor()[0].numpy(), pixels / 65535, rtol=1e-6)


def test_a_time_series_of_colours_is_read(tmp_path, rng):
    pixels = rng.integers(0, 255, (2, 20, 30, 3), dtype=np.uint8)
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        for time in range(2):
            file.write(data=pixels[time], plane={"C": 0, "T": time})
        file.write_metadata("a", scale_x=1e-6, scale_y=1e-6)
    images = read_images(tmp_path / "a.czi")
    assert (images.record.axes, images.shape) == ("CTYX", (3, 2, 20, 30))
    assert images.record.channels == ("red", "green", "blue")
    stored = images.tensor()[0].numpy().transpose(1, 2, 3, 0) * 255
    np.testing.assert_allclose(stored, pixels[..., ::-1], atol=1e-4)  # it is written with blue first


def test_scenes_that_nothing_names_are_refused_not_dropped(tmp_path, rng):
    pixels = rng.integers(0, 4000, (2, 40, 56, 1), dtype=np.uint16)
    with czi.create_czi(str(tmp_path / "b.czi")) as file:
        for scene in range(2):
            file.write(data=pixels[scene], plane={"C": 0}, scene=scene, location=(100 * scene, 0))
    with pytest.raises(BadImage, match="holds 2 scenes and its metadata names 1"):
        read_images(tmp_path / "b.czi")


def test_a_cut_czi_is_called_corrupt_not_in_want_of_a_plugin(tmp_path, rng, caplog):
    with czi.create_czi(str(tmp_path / "a.czi")) as file:
        file.write(data=rng.integers(0, 255, (40, 56, 1), dtype=np.uint8), plane={"C": 0})
    whole = (tmp_path / "a.czi").read_bytes()
    for length in (40, 600, len(whole) // 2, len(whole) - 200):
        (tmp_path / "cut.czi").write_bytes(whole[:length])
        with pytest.raises(BadImage, match=r"cut\.czi: the file is corrupt, incomplete"):
            read_images(tmp_path / "cut.czi").tensor()
    assert str(tmp_path) not in caplog.text
