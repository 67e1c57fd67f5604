import numpy as np
import pytest
import tifffile
import torch
import zarr
from torch import nn

from pellucid.attribution import explain
from pellucid.errors import BadImage, BadStudy
from pellucid.images.multiscale import build_levels, create_pyramid
from pellucid.images.slide import open_slide
from pellucid.models import Model
from pellucid.study.slide import explain_slide


class Summed(nn.Module):
    """A net of local layers, reach 3 pixels, whose answer is a sum over places."""

    def __init__(self):
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.body = nn.Sequential(
                nn.Conv2d(3, 6, 3, padding=1),
                nn.Tanh(),
                nn.Conv2d(6, 6, 3, padding=1),
                nn.Softplus(),
                nn.Conv2d(6, 2, 3, padding=1),
            )

    def forward(self, x):
        return self.body(x).sum((2, 3))


@pytest.fixture(scope="module")
def pixels():
    return np.random.default_rng(0).integers(0, 255, (150, 190, 3), dtype=np.uint8)


@pytest.fixture(scope="module")
def slide(tmp_path_factory, pixels):
    path = tmp_path_factory.mktemp("slide") / "slide.tif"
    with tifffile.TiffWriter(path) as file:
        options = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
        file.write(pixels, subifds=1, resolution=(20_000, 20_000), **options)
        file.write(pixels[::2, ::2], subfiletype=1, **options)
    return path


@pytest.fixture(scope="module")
def model():
    return Model(Summed().eval())


def whole_map(model, pixels, method, target=1):
    x = torch.from_numpy(pixels.astype(np.float32) / 255).permute(2, 0, 1)[None]
    return explain(model, x, method, target).values.sum(1)[0].numpy()


@pytest.mark.parametrize("method", ["input_x_gradient", "integrated_gradients(steps=4)"])
def test_tiles_have_no_seams(slide, model, pixels, method, tmp_path):
    found = explain_slide(
        model, slide, method, tmp_path / "a.ome.zarr", target=1, tile=32, halo=6, shard=64, batch_size=3
    )
    np.testing.assert_allclose(found.read(), whole_map(model, pixels, method), atol=2e-6)


def test_a_margin_below_the_reach_leaves_seams(slide, model, pixels, tmp_path):
    found = explain_slide(
        model, slide, "input_x_gradient", tmp_path / "a.ome.zarr", target=1, tile=32, halo=2, shard=64
    )
    wrong = np.abs(found.read() - whole_map(model, pixels, "input_x_gradient")) > 1e-4
    assert wrong[28:36].mean() > 0.1
    assert not wrong[10:22, 10:22].any()


def test_the_map_is_an_image_beside_the_slide_with_levels_and_its_pixel_size(slide, model):
    found = explain_slide(model, slide, "saliency", target=1, tile=64, halo=0, shard=64)
    assert found.path == slide.parent / "slide.map.ome.zarr"
    told = zarr.open_group(found.path, mode="r").attrs
    scale = told["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == pytest.approx([1.0, 0.5, 0.5])
    assert told["pellucid"]["method"] == "saliency"
    assert found.outputs.shape == (3, 3)
    with open_slide(slide) as opened:
        x = opened.read(slice(64, 128), slice(0, 64))[None]
    assert found.outputs[1, 0] == pytest.approx(float(model.module(x)[0, 1].detach()), rel=1e-4)


def test_a_killed_map_goes_on_where_it_stood(slide, model, tmp_path, monkeypatch):
    options = {"target": 1, "tile": 32, "halo": 6, "shard": 64}
    whole = explain_slide(model, slide, "input_x_gradient", tmp_path / "a.ome.zarr", **options).read()
    found = explain_slide(model, slide, "input_x_gradient", tmp_path / "b.ome.zarr", **options)
    (found.path / "0" / "c" / "0" / "1" / "2").unlink()
    explained = []
    real = explain

    def counted(*args, **rest):
        explained.extend(rest["ids"])
        return real(*args, **rest)

    monkeypatch.setattr("pellucid.study.slide_shard.explain", counted)
    explain_slide(model, slide, "input_x_gradient", found.path, **options)
    assert sorted(explained) == ["64_128", "64_160", "96_128", "96_160"]
    assert np.array_equal(found.read(), whole)


def test_tiles_that_are_not_kept_are_not_explained(slide, model, pixels, tmp_path):
    keep = lambda tile: bool(tile.mean() > 0.5)  # noqa: E731
    found = explain_slide(
        model, slide, "saliency", tmp_path / "a.ome.zarr", target=1, tile=32, halo=0, shard=64, keep=keep
    )
    left_out = np.isnan(found.outputs)
    assert 0 < left_out.sum() < left_out.size
    assert bool(np.isnan(found.read()[:32, :32]).all()) == bool(left_out[0, 0])
    bright = pixels[:32, :32].mean() / 255 > 0.5
    assert left_out[0, 0] != bright


def test_other_choices_and_foreign_folders_are_refused(slide, model, tmp_path):
    out = tmp_path / "a.ome.zarr"
    explain_slide(model, slide, "saliency", out, target=1, tile=64, halo=0, shard=64)
    with pytest.raises(BadStudy, match="begun with method = 'saliency' and is now asked for 'input_x_gradient'"):
        explain_slide(model, slide, "input_x_gradient", out, target=1, tile=64, halo=0, shard=64)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(BadStudy, match="no map of a slide"):
        explain_slide(model, slide, "saliency", tmp_path / "mine", target=1)
    with pytest.raises(BadStudy, match="no whole number of tiles"):
        explain_slide(model, slide, "saliency", out, tile=60, shard=64)


def test_a_slide_is_read_at_a_pixel_size_never_between_two(slide, pixels):
    with open_slide(slide, um_per_px=1.0) as half, open_slide(slide, um_per_px=2.0) as fourth:
        assert half.shape == (3, 75, 95)
        read = half.read(slice(10, 12), slice(5, 9))
        np.testing.assert_allclose(read, pixels[20:24:2, 10:18:2].transpose(2, 0, 1) / 255, atol=1e-6)
        assert fourth.step == 2
        coarse = fourth.read(slice(0, 37), slice(0, 47))
    expected = (pixels[::2, ::2][:74, :94].reshape(37, 2, 47, 2, 3).mean((1, 3)) / 255).transpose(2, 0, 1)
    np.testing.assert_allclose(coarse, expected, atol=1e-5)
    with pytest.raises(
        BadImage, match=r"um_per_px=0\.7 is no whole multiple of the pixel sizes of its levels, which are 0\.5, 1 µm"
    ):
        open_slide(slide, um_per_px=0.7)


def test_ome_zarr_and_ome_tiff_slides(pixels, tmp_path):
    image = pixels.transpose(2, 0, 1)
    array = create_pyramid(
        tmp_path / "s.ome.zarr", image.shape, axes="CYX", dtype="uint8", name="s", spacing=(0.25, 0.25)
    )
    array[...] = image
    build_levels(tmp_path / "s.ome.zarr")
    tifffile.imwrite(tmp_path / "s.ome.tif", image, photometric="minisblack",
                     metadata={"axes": "CYX", "PhysicalSizeX": 250.0, "PhysicalSizeXUnit": "nm"})  # fmt: skip
    for name in ("s.ome.zarr", "s.ome.tif"):
        with open_slide(tmp_path / name) as slide:
            assert slide.um_per_px == pytest.approx(0.25)
            np.testing.assert_allclose(
                slide.read(slice(3, 9), slice(100, 140)), image[:, 3:9, 100:140] / 255, atol=1e-6
            )


def test_what_is_no_slide_is_one_sentence(tmp_path):
    (tmp_path / "a.tif").write_bytes(b"no image")
    with pytest.raises(BadImage, match=r"a\.tif"):
        open_slide(tmp_path / "a.tif")
    with pytest.raises(BadImage, match="no OME-Zarr group"):
        open_slide(tmp_path)
    tifffile.imwrite(
        tmp_path / "b.tif", np.zeros((4, 20, 20), np.uint8), photometric="minisblack", metadata={"axes": "ZYX"}
    )
    with pytest.raises(BadImage, match=r"axes ZYX .* no plane"):
        open_slide(tmp_path / "b.tif")
    with pytest.raises(BadImage, match=r"SVS|\.svs"):
        open_slide(tmp_path / "c.png")


def test_a_grey_plane_and_a_stack_of_one_plane_are_slides(pixels, tmp_path):
    tifffile.imwrite(tmp_path / "grey.tif", pixels[..., 0])
    array = create_pyramid(
        tmp_path / "a.zarr", (1, 3, 1, 150, 190), axes="TCZYX", dtype="uint8", name="a", spacing=None
    )
    array[...] = pixels.transpose(2, 0, 1)[None, :, None]
    for name, image in (("grey.tif", pixels[..., :1]), ("a.zarr", pixels)):
        with open_slide(tmp_path / name) as slide:
            assert slide.um_per_px is None
            found = slide.read(slice(3, 9), slice(100, 140))
        np.testing.assert_allclose(found, image[3:9, 100:140].transpose(2, 0, 1) / 255, atol=1e-6)


def test_a_slide_of_a_scanner_is_explained_as_the_same_pixels_in_a_tiff(pixels, tmp_path, model):
    pytest.importorskip("tiffslide")
    told = f"Aperio Image Library v1\n{pixels.shape[1]}x{pixels.shape[0]} (64x64)|AppMag = 20|MPP = 0.5"
    with tifffile.TiffWriter(tmp_path / "scan.svs", bigtiff=False) as file:
        for level, small in enumerate((pixels, pixels[::2, ::2])):
            file.write(
                small, tile=(64, 64), photometric="rgb", metadata=None, description=told, subfiletype=int(level > 0)
            )
    options = {"target": 1, "um_per_px": 0.5, "tile": 64, "halo": 12, "shard": 128}
    found = explain_slide(model, tmp_path / "scan.svs", "input_x_gradient", **options)
    assert found.path == tmp_path / "scan.map.ome.zarr"
    np.testing.assert_allclose(found.read(), whole_map(model, pixels, "input_x_gradient"), atol=1e-5)
    with open_slide(tmp_path / "scan.svs", um_per_px=1.0) as coarse:
        # the second picture of this scanner's files is a thumbnail, no level: pixels of the first are averaged
        assert (coarse.level, coarse.step) == (0, 2)
        expected = pixels[40:80, 60:120].reshape(20, 2, 30, 2, 3).mean((1, 3)).transpose(2, 0, 1) / 255
        np.testing.assert_allclose(coarse.read(slice(20, 40), slice(30, 60)), expected, atol=1e-6)
