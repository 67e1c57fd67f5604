"""Slides in tiles: the right ground at the right pixel size, tissue only, nothing read that is not asked for."""

import pickle

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage, BadRecipe
from pellucid.images import read_images
from pellucid.images.tissue import TISSUE

STEP = 0.5


def write(path, base, *, levels=3, aperio=False):
    """Write a pyramid of block means with 0.5 µm pixels; ``aperio`` as the scanner of that name describes it."""
    settings = {"photometric": "rgb", "tile": (32, 32), "metadata": None}
    description = f"Aperio Image Library v1\n{base.shape[1]}x{base.shape[0]} (32x32)|AppMag = 20|MPP = {STEP}"
    with tifffile.TiffWriter(path, bigtiff=False) as file:
        for level in range(levels):
            small = base.reshape(base.shape[0] // 2**level, 2**level, base.shape[1] // 2**level, 2**level, 3).mean(
                (1, 3)
            )
            small = np.rint(small).astype(np.uint8)
            if aperio:
                file.write(small, description=description, subfiletype=0 if not level else 1, **settings)
            else:
                file.write(
                    small, resolution=(1e4 / STEP / 2**level,) * 2, resolutionunit="CENTIMETER", subifds=None if level else levels - 1,
                    subfiletype=int(level > 0), **settings,
                )  # fmt: skip
    return path


@pytest.fixture
def base(rng):
    return rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)


@pytest.mark.parametrize(("name", "aperio"), [("a.tif", False), ("a.svs", True)])
def test_tiles_cover_the_slide_and_hold_its_pixels(tmp_path, base, name, aperio):
    images = read_images(write(tmp_path / name, base, aperio=aperio), um_per_px=STEP, tile=(40, 48))
    assert images.ids[:4] == (f"{name}/0_0", f"{name}/0_48", f"{name}/0_80", f"{name}/40_0")
    assert images.record.spacing == pytest.approx((STEP, STEP))
    seen = np.zeros(base.shape[:2], int)
    for image, y, x, tile in zip(images.ids, images.column("y"), images.column("x"), images.tensor(), strict=True):
        np.testing.assert_allclose(tile.numpy(), base[y : y + 40, x : x + 48].transpose(2, 0, 1) / 255, rtol=1e-6)
        assert images.record_of(image).crop == (y, x)
        seen[y : y + 40, x : x + 48] += 1
    assert seen.min() == 1
    assert set(images.column("slide")) == {name}


def test_a_coarser_pixel_size_reads_a_coarser_level(tmp_path, base):
    path = write(tmp_path / "a.tif", base)
    images = read_images(path, um_per_px=2 * STEP, tile=32)
    small = np.rint(base.reshape(48, 2, 64, 2, 3).mean((1, 3)))
    np.testing.assert_allclose(
        images.tensor(["a.tif/0_32"])[0].numpy(), small[:32, 32:].transpose(2, 0, 1) / 255, atol=1e-6
    )
    between = read_images(path, um_per_px=1.5 * STEP, tile=16)
    assert between.shape == (3, 16, 16)
    assert max(between.column("x")) == 128 * 2 // 3 - 16
    with pytest.raises(BadImage, match="finer than the image"):
        read_images(path, um_per_px=0.2, tile=32)


def test_neighbours_share_the_overlap(tmp_path, base):
    images = read_images(write(tmp_path / "a.tif", base), um_per_px=STEP, tile=32, overlap=16)
    assert sorted(set(images.column("x"))) == [*range(0, 97, 16)]
    left, right = images.tensor(["a.tif/0_0", "a.tif/0_16"])
    assert (left[:, :, 16:] == right[:, :, :16]).all()


def test_only_tiles_with_tissue_are_kept(tmp_path):
    base = np.full((256, 256, 3), 240, np.uint8)
    base[64:192, 0:128] = (180, 60, 140)
    recipe = "saturation(um_per_px=2.0, smooth=0.0, smallest=100.0, share=0.9)"
    images = read_images(write(tmp_path / "a.tif", base), um_per_px=STEP, tile=64, tissue=recipe)
    assert sorted(zip(images.column("y"), images.column("x"), strict=True)) == [(64, 0), (64, 64), (128, 0), (128, 64)]
    assert min(images.column("tissue")) > 0.9
    half = read_images(tmp_path / "a.tif", um_per_px=STEP, tile=128, tissue=recipe.replace("0.9", "0.4"))
    assert dict(zip(half.ids, half.column("tissue"), strict=True)) == {"a.tif/0_0": 0.5, "a.tif/128_0": 0.5}
    write(tmp_path / "glass.tif", np.full((256, 256, 3), 240, np.uint8))
    with pytest.raises(BadImage, match="no tile of 1 slides holds so much tissue"):
        read_images(tmp_path / "glass.tif", um_per_px=STEP, tile=64, tissue="saturation")
    with pytest.raises(BadRecipe, match="there is no tissue recipe 'colour'"):
        read_images(tmp_path / "a.tif", um_per_px=STEP, tile=64, tissue="colour")


def test_the_recipe_finds_a_stained_disc_among_dust_and_noise(rng):
    y, x = np.mgrid[:120, :120]
    disc = (y - 60) ** 2 + (x - 50) ** 2 < 30**2
    colours = np.where(disc[..., None], [0.7, 0.4, 0.6], 0.93) + rng.normal(0, 0.01, (120, 120, 3))
    colours[5:8, 100:103] = (0.2, 0.1, 0.9)
    found = TISSUE.parse("saturation").mask(colours.clip(0, 1))
    assert (found & disc).sum() / (found | disc).sum() > 0.95
    assert not found[5:8, 100:103].any()


def test_a_folder_of_slides_gives_tiles_with_the_label_of_their_slide(tmp_path, base):
    for name in ("sick/1.tif", "well/2.tif"):
        (tmp_path / name).parent.mkdir()
        write(tmp_path / name, base)
    images = read_images(tmp_path, um_per_px=STEP, tile=64, group="slide")
    assert images.classes == ("sick", "well")
    assert images.labels == (0,) * 4 + (1,) * 4
    assert images.column("slide") == ["sick/1.tif"] * 4 + ["well/2.tif"] * 4
    again = pickle.loads(pickle.dumps(images))
    assert (again.tensor(images.ids[:1]) == images.tensor(images.ids[:1])).all()


def test_a_tile_reads_only_the_ground_it_covers(tmp_path, base):
    path = tmp_path / "a.tif"
    tifffile.imwrite(
        path,
        base,
        photometric="rgb",
        tile=(32, 32),
        compression="zlib",
        resolution=(1e4 / STEP,) * 2,
        resolutionunit="CENTIMETER",
        metadata=None,
    )
    images = read_images(path, um_per_px=STEP, tile=32)
    with tifffile.TiffFile(path) as file:
        last, size = file.pages[0].dataoffsets[-1], file.pages[0].databytecounts[-1]
    whole = bytearray(path.read_bytes())
    whole[last : last + size] = b"x" * size
    path.write_bytes(whole)
    assert images.load("a.tif/0_0").shape == (3, 32, 32)
    with pytest.raises(BadImage, match="corrupt"):
        images.load("a.tif/64_96")


@pytest.mark.parametrize(
    ("settings", "reason"),
    [({"tile": 32}, "give um_per_px="), ({"tile": (0, 4), "um_per_px": STEP}, "give \\(Y, X\\)"), ({"tile": 32, "overlap": 32, "um_per_px": STEP}, "overlap below"),
     ({"overlap": 3}, "give tile= as well"), ({"tile": 200, "um_per_px": STEP}, "fewer than a tile")],
)  # fmt: skip
def test_tiles_that_cannot_be_cut_are_refused(tmp_path, base, settings, reason):
    with pytest.raises(BadImage, match=reason):
        read_images(write(tmp_path / "a.tif", base), **settings)


def test_a_whole_slide_is_one_picture_at_a_stated_pixel_size(tmp_path, base):
    path = write(tmp_path / "a.svs", base, aperio=True)
    with pytest.raises(BadImage, match="a slide is read at a pixel size"):
        read_images(path)
    images = read_images(path, um_per_px=4 * STEP)
    assert images.shape == (3, 24, 32)
    assert images.record.spacing == pytest.approx((2.0, 2.0))
