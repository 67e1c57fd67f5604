"""OME-TIFF and pyramids: which image, which level, and what the metadata state in which unit."""

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage
from pellucid.images import read_images


def series(path, rng):
    stacks = {name: rng.integers(0, 255, (2, 6 + place, 5), dtype=np.uint8) for place, name in enumerate("ab")}
    with tifffile.TiffWriter(path, ome=True) as file:
        for place, (name, stack) in enumerate(stacks.items()):
            metadata = {
                "axes": "CYX", "Name": name, "Channel": {"Name": [f"{name}1", f"{name}2"]}, "PhysicalSizeX": 0.5 + place,
                "PhysicalSizeY": 0.25, "PhysicalSizeXUnit": "nm" if place else "µm",
            }  # fmt: skip
            file.write(stack, photometric="minisblack", metadata=metadata)
    return stacks


def pyramid(path, base, *, levels=3, **metadata):
    with tifffile.TiffWriter(path, ome=bool(metadata)) as file:
        resolution = {} if metadata else {"resolution": (20000, 20000), "resolutionunit": "CENTIMETER"}
        settings = {"photometric": "rgb", "tile": (16, 16), **resolution}
        file.write(base, subifds=levels - 1, metadata={"axes": "YXS", **metadata} if metadata else None, **settings)
        for level in range(1, levels):
            settings |= {"resolution": (20000 / 2**level,) * 2} if resolution else {}
            file.write(base[:: 2**level, :: 2**level], subfiletype=1, metadata=None, **settings)


@pytest.mark.parametrize("chosen", [0, 1, "a", "b"])
def test_one_of_several_images_is_chosen_by_number_or_name_with_its_own_metadata(tmp_path, rng, chosen):
    stacks = series(tmp_path / "x.ome.tif", rng)
    images = read_images(tmp_path / "x.ome.tif", series=chosen)
    name = chosen if isinstance(chosen, str) else "ab"[chosen]
    np.testing.assert_allclose(images.tensor()[0].numpy(), stacks[name] / 255, rtol=1e-6)
    assert images.record.channels == (f"{name}1", f"{name}2")
    assert images.record.spacing == pytest.approx((0.25, 0.5 if name == "a" else 0.0015))


@pytest.mark.parametrize(("chosen", "reason"), [(None, r"holds 2 images \(0: a CYX \(2, 6, 5\); 1: b CYX \(2, 7, 5\)\); choose one"), (2, "no series 2"), ("c", "no series 'c'")])  # fmt: skip
def test_a_choice_that_is_missing_or_wrong_lists_what_there_is(tmp_path, rng, chosen, reason):
    series(tmp_path / "x.ome.tif", rng)
    with pytest.raises(BadImage, match=reason):
        read_images(tmp_path / "x.ome.tif", series=chosen)


@pytest.mark.parametrize(("unit", "size", "expected"), [("nm", 250, 0.25), ("mm", 0.002, 2), ("cm", 1e-4, 1), ("Å", 5000, 0.5), ("pm", 1e6, 1), ("m", 1e-6, 1), ("µm", 0.3, 0.3), ("pixel", 1, None)])  # fmt: skip
def test_every_unit_of_length_becomes_micrometres_and_pixels_are_none(tmp_path, unit, size, expected):
    metadata = (
        {"axes": "YX"}
        | {f"PhysicalSize{axis}": size for axis in "XY"}
        | {f"PhysicalSize{axis}Unit": unit for axis in "XY"}
    )
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((6, 5), np.uint8), metadata=metadata, ome=True)
    spacing = read_images(tmp_path / "a.ome.tif").record.spacing
    assert spacing == (None if expected is None else pytest.approx((expected, expected)))


@pytest.mark.parametrize("metadata", [{}, {"PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5}])
def test_a_level_of_a_pyramid_has_its_own_pixel_size(tmp_path, rng, metadata):
    base = rng.integers(0, 255, (64, 48, 3), dtype=np.uint8)
    pyramid(tmp_path / "p.tif", base, **metadata)
    for level in range(3):
        images = read_images(tmp_path / "p.tif", level=level)
        wanted = base[:: 2**level, :: 2**level].transpose(2, 0, 1) / 255
        np.testing.assert_allclose(images.tensor()[0].numpy(), wanted, rtol=1e-6)
        assert images.record.spacing == pytest.approx((0.5 * 2**level,) * 2)
    with pytest.raises(BadImage, match="no level 3; it has 3"):
        read_images(tmp_path / "p.tif", level=3)


def test_a_pixel_size_takes_the_coarsest_level_that_is_as_fine(tmp_path, rng):
    pyramid(tmp_path / "p.tif", rng.integers(0, 255, (64, 48, 3), dtype=np.uint8))
    coarse = read_images(tmp_path / "p.tif", um_per_px=2.0)
    assert (coarse.tensor() == read_images(tmp_path / "p.tif", level=2).tensor()).all()
    between = read_images(tmp_path / "p.tif", um_per_px=1.6)
    assert between.record.spacing == pytest.approx((1.6, 1.6))
    assert between.shape == (3, 20, 15)
    with pytest.raises(BadImage, match=r"um_per_px=0\.25 is finer than the image, whose pixels are 0.5 µm"):
        read_images(tmp_path / "p.tif", um_per_px=0.25)
    with pytest.raises(BadImage, match="leave size= and level= out"):
        read_images(tmp_path / "p.tif", um_per_px=1.0, level=0)


def test_a_pixel_size_needs_one_that_is_known(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((6, 5), np.uint8))
    with pytest.raises(BadImage, match="needs a pixel size"):
        read_images(tmp_path / "a.tif", um_per_px=1.0)


def test_a_given_spacing_serves_where_the_file_has_none(tmp_path, rng):
    np.save(tmp_path / "a.npy", rng.normal(size=(8, 12)))
    images = read_images(tmp_path / "a.npy", um_per_px=2.0, spacing=(1.0, 0.5))
    assert images.shape == (1, 4, 3)
    assert images.record.spacing == (2.0, 2.0)


def test_metadata_that_name_files_elsewhere_are_refused(tmp_path):
    tifffile.imwrite(tmp_path / "a.ome.tif", np.zeros((6, 5), np.uint8), ome=True)
    with tifffile.TiffFile(tmp_path / "a.ome.tif") as file:
        text = file.ome_metadata
    hostile = text.replace(
        '<TiffData IFD="0" PlaneCount="1"/>', '<TiffData IFD="0" PlaneCount="1"><UUID FileName="../../etc/passwd">u</UUID></TiffData>'
    )  # fmt: skip
    assert "passwd" in hostile
    tifffile.imwrite(tmp_path / "b.ome.tif", np.zeros((6, 5), np.uint8), description=hostile, metadata=None)
    with pytest.raises(BadImage, match="outside the folder"):
        read_images(tmp_path / "b.ome.tif")


def test_an_image_larger_than_the_limit_is_refused_by_its_header(tmp_path):
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((600, 500), np.uint8), compression="zlib")
    with pytest.raises(BadImage, match=r"states 3e\+05 values, more than the limit of 1e\+05"):
        read_images(tmp_path / "a.tif", limit=100_000)


def test_a_choice_that_means_nothing_for_a_format_is_refused(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((4, 4)))
    with pytest.raises(BadImage, match="a NumPy file has no series to choose"):
        read_images(tmp_path / "a.npy", series=0)


def test_the_first_file_of_a_stack_kept_in_several_is_the_stack(tmp_path, rng):
    planes = rng.integers(0, 255, (3, 6, 5), dtype=np.uint8)
    data = "".join(
        f'<TiffData FirstZ="{place}" IFD="0" PlaneCount="1"><UUID FileName="z{place}.ome.tif">urn:uuid:{place}</UUID></TiffData>'
        for place in range(3)
    )
    for place, plane in enumerate(planes):
        xml = (
            f'<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:{place}">'
            '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="5" SizeY="6" SizeZ="3" SizeC="1" '
            f'SizeT="1" PhysicalSizeX="0.5" PhysicalSizeY="0.5" PhysicalSizeZ="2">{data}</Pixels></Image></OME>'
        )
        tifffile.imwrite(tmp_path / f"z{place}.ome.tif", plane, description=xml, metadata=None)
    images = read_images(tmp_path / "z0.ome.tif")
    assert (images.record.axes, images.record.spacing) == ("CZYX", (2.0, 0.5, 0.5))
    np.testing.assert_allclose(images.tensor()[0, 0].numpy(), planes / 255, rtol=1e-6)
    with pytest.raises(BadImage, match="one of the 3 files of one stack"):
        read_images(tmp_path / "z1.ome.tif")


def test_a_companion_elsewhere_or_of_absurd_size_is_refused(tmp_path):
    for name, match in (
        ("../secret.companion.ome", "outside the folder"),
        ("big.companion.ome", "which no metadata have"),
    ):
        only = f'<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="u"><BinaryOnly MetadataFile="{name}" UUID="v"/></OME>'
        tifffile.imwrite(tmp_path / "x.ome.tif", np.zeros((4, 4), np.uint8), description=only, metadata=None)
        with (tmp_path / "big.companion.ome").open("wb") as file:
            file.truncate(65 << 20)
        with pytest.raises(BadImage, match=match):
            read_images(tmp_path / "x.ome.tif")
