"""Slides laid out as scanners lay them out: SCN with its macro, NDPI with its 64-bit offsets, BIF with its XML. Made here, no scanner's own."""

import struct

import numpy as np
import pytest
import tifffile

from pellucid.errors import BadImage
from pellucid.images import read_images

pytest.importorskip("tiffslide")
STEP, LEVELS = 0.5, 3


@pytest.fixture
def base(rng):
    return rng.integers(0, 255, (96, 128, 3), dtype=np.uint8)


def level_of(base, level):
    height, width = (side // 2**level for side in base.shape[:2])
    return np.rint(base.reshape(height, 2**level, width, 2**level, 3).mean((1, 3))).astype(np.uint8)


def write_scn(path, base):
    """The slide's macro picture first, then the scan; sizes of both in nanometres."""
    nanometres = [round(side * STEP * 1000) for side in base.shape[1::-1]]
    settings = (
        '<creationDate>2020-01-01T00:00:00Z</creationDate><device model="Leica SCN400" version="1.5"/><scanSettings><objectiveSettings>'
        "<objective>20</objective></objectiveSettings><illuminationSettings><numericalAperture>0.4</numericalAperture>"
        "<illuminationSource>brightfield</illuminationSource></illuminationSettings></scanSettings>"
    )

    def image(name, sizes, first, view):
        dimensions = "".join(
            f'<dimension sizeX="{width}" sizeY="{height}" r="{place}" ifd="{first + place}"/>'
            for place, (height, width) in enumerate(sizes)
        )
        return (
            f'<image name="{name}" uuid="urn:uuid:{name}"><pixels sizeX="{sizes[0][1]}" sizeY="{sizes[0][0]}">{dimensions}</pixels>'
            f'<view sizeX="{view[0]}" sizeY="{view[1]}" offsetX="{view[2]}" offsetY="{view[3]}" spacingZ="0"/>{settings}</image>'
        )

    scan = [level_of(base, level).shape[:2] for level in range(LEVELS)]
    xml = (
        '<?xml version="1.0"?><scn xmlns="http://www.leica-microsystems.com/scn/2010/10/01" uuid="urn:uuid:1"><collection name="c" '
        f'uuid="urn:uuid:2" sizeX="80000" sizeY="96000"><barcode/>{image("macro", [(48, 16)], 0, (80000, 96000, 0, 0))}'
        f"{image('scan', scan, 1, (*nanometres, 16000, 32000))}</collection></scn>"
    )
    settings = {"photometric": "rgb", "tile": (32, 32), "metadata": None, "software": False}
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        file.write(np.full((48, 16, 3), 7, np.uint8), description=xml, **settings)
        for level in range(LEVELS):
            file.write(
                level_of(base, level), resolution=(1e4 / STEP / 2**level,) * 2, resolutionunit="CENTIMETER", **settings
            )


def write_bif(path, base, *, overlap=0):
    xml = (
        f'<EncodeInfo><SlideInfo><iScan ScanRes="{STEP}" Magnification="20"/></SlideInfo><SlideStitchInfo><ImageInfo>'
        f'<TileJointInfo FlagJoined="1" Confidence="99" Direction="RIGHT" Tile1="1" Tile2="2" OverlapX="{overlap}" OverlapY="0"/>'
        '<TileJointInfo FlagJoined="0" Direction="RIGHT" Tile1="2" Tile2="3" OverlapX="9" OverlapY="9"/>'
        "</ImageInfo></SlideStitchInfo></EncodeInfo>"
    ).encode()
    with tifffile.TiffWriter(path, bigtiff=True) as file:
        for level in range(LEVELS):
            file.write(
                level_of(base, level), photometric="rgb", tile=(32, 32), metadata=None, software="ScanOutputManager 1.1",
                description=f"level={level} mag={20 / 2**level} quality=90", extratags=[(700, "B", len(xml), xml, True)],
            )  # fmt: skip


def write_ndpi(path, base):
    """Pages of one strip; offsets of pages take eight bytes, and the high halves of all values follow each page's tags."""
    data = bytearray(b"II*\0" + bytes(8))
    link = 4
    for level in range(LEVELS):
        pixels = level_of(base, level)
        strip = len(data)
        data += pixels.tobytes()
        values = {}
        for name, content in (
            ("bits", struct.pack("<3H", 8, 8, 8)), ("make", b"Hamamatsu\0"), ("model", b"C9600-12\0\0"),
            ("density", struct.pack("<2I", round(1e4 / STEP / 2**level), 1)),
        ):  # fmt: skip
            values[name] = len(data)
            data += content
        lens = struct.unpack("<I", struct.pack("<f", 20 / 2**level))[0]
        tags = [
            (254, 4, 1, int(level > 0)), (256, 4, 1, pixels.shape[1]), (257, 4, 1, pixels.shape[0]), (258, 3, 3, values["bits"]),
            (259, 3, 1, 1), (262, 3, 1, 2), (271, 2, 10, values["make"]), (272, 2, 9, values["model"]), (273, 4, 1, strip), (277, 3, 1, 3),
            (278, 4, 1, pixels.shape[0]), (279, 4, 1, pixels.nbytes), (282, 5, 1, values["density"]), (283, 5, 1, values["density"]),
            (296, 3, 1, 3), (65420, 4, 1, 1), (65421, 11, 1, lens),
        ]  # fmt: skip
        struct.pack_into("<Q", data, link, len(data))
        data += struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", *tag) for tag in tags)
        link = len(data)
        data += bytes(8) + bytes(4 * len(tags))
    path.write_bytes(data)


@pytest.mark.parametrize(("name", "write"), [("a.scn", write_scn), ("a.bif", write_bif), ("a.ndpi", write_ndpi)])
def test_a_scanners_layout_is_read_at_its_pixel_sizes_and_in_tiles(tmp_path, base, name, write, recwarn):
    write(tmp_path / name, base)
    for level in range(LEVELS):
        images = read_images(tmp_path / name, um_per_px=STEP * 2**level)
        assert images.record.spacing == pytest.approx((STEP * 2**level,) * 2)
        np.testing.assert_allclose(
            images.tensor()[0].numpy(), level_of(base, level).transpose(2, 0, 1) / 255, atol=1e-6
        )
    tiles = read_images(tmp_path / name, um_per_px=STEP, tile=32)
    assert len(tiles) == 12
    np.testing.assert_allclose(
        tiles.tensor([f"{name}/32_64"])[0].numpy(), base[32:64, 64:96].transpose(2, 0, 1) / 255, atol=1e-6
    )
    assert not recwarn.list


def test_overlapping_tiles_that_nobody_stitched_are_refused(tmp_path, base):
    write_bif(tmp_path / "a.bif", base, overlap=7)
    with pytest.raises(BadImage, match="3 of 3 joints of its tiles overlap and are not stitched"):
        read_images(tmp_path / "a.bif", um_per_px=STEP)
