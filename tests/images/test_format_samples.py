"""Every sample file in shared/data/formats: axes, shape, pixel size, type and values, and what must be said to open it."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import read_images

from .conftest import SHARED

pytestmark = pytest.mark.data
NAN = np.nan
FORMATS = SHARED / "formats"


@dataclass(frozen=True)
class Sample:
    """A file, its stored type, and what it is read as; `given` is what the file does not say of itself."""

    name: str
    stored: str
    axes: str
    shape: tuple[int, ...]
    spacing: tuple[float, ...] | None = None
    channels: tuple[str, ...] = ("grey",)
    given: dict[str, Any] = field(default_factory=dict)


RGB = ("red", "green", "blue")
SAMPLES = [
    Sample("tiff/tzcyx_uint16.tif", "uint16", "CTZYX", (2, 2, 3, 169, 169), (10.0, 0.125, 0.12424243, 0.12424243), ("channel_0", "channel_1")),
    Sample("tiff/zcyx_uint8.tif", "uint8", "CZYX", (2, 25, 50, 50), (0.0544550, 0.4356400, 0.4356400), ("channel_0", "channel_1")),
    Sample("tiff/mitotic_plate_zyx_uint8.tif", "uint8", "CZYX", (1, 6, 263, 263), (3.0, 0.0851964, 0.0851964)),
    Sample("tiff/ovule_zyx_uint8.tif", "uint8", "CZYX", (1, 32, 128, 128), (NAN, 0.15, 0.15)),
    Sample("tiff/spots_tyx_uint16.tif", "uint16", "CTYX", (1, 5, 198, 356)),
    Sample("tiff/nuclei3d_image.tif", "uint16", "CZYX", (1, 31, 61, 57), given={"axes": "ZYX"}),
    Sample("tiff/nuclei3d_labels.tif", "uint16", "CZYX", (1, 31, 61, 57), given={"axes": "ZYX"}),
    Sample("tiff/nuclei2d_image.tif", "uint16", "CYX", (1, 512, 512)),
    Sample("tiff/nuclei2d_labels.tif", "uint16", "CYX", (1, 512, 512)),
    Sample("tiff/worms_well_C01_w1_uint16.tif", "uint16", "CYX", (1, 520, 696)),
    Sample("tiff/worms_well_C01_w2_uint16.tif", "uint16", "CYX", (1, 520, 696)),
    Sample("tiff/worms_w1_16bit.png", "uint16", "CYX", (1, 520, 696)),
    *(Sample(f"tiff/human_cells_d{number}.tif", "uint8", "CYX", (1, 512, 512)) for number in range(3)),
    Sample("tiff/yxc_uint16.tif", "uint16", "CYX", (3, 58, 64), None, RGB),
    Sample("tiff/yx_float64.tif", "float64", "CYX", (1, 265, 329)),
    *(Sample(f"timelapse/drosophila_embryo_{number:02}.tif", "uint8", "CYX", (3, 264, 542), None, RGB) for number in range(8)),
    Sample("ome_tiff/artificial_3ch_int8.ome.tif", "int8", "CYX", (3, 167, 439), None, ("channel_0", "channel_1", "channel_2")),
    Sample("ome_tiff/worms_2ch_uint16.ome.tif", "uint16", "CYX", (2, 520, 696), None, ("w1", "w2")),
    *(Sample(f"ome_tiff/multifile-Z{number}.ome.tiff", "uint8", "CYX", (1, 24, 18)) for number in range(1, 6)),
    *(
        Sample("ome_tiff/multiseries.ome.tiff", "uint16", "CYX", (4, 5, 5), (0.65, 0.65), tuple(f"channel_{place}" for place in range(4)),
               {"series": number})
        for number in range(6)
    ),
    Sample("ome_zarr/mitotic_plate_zyx.ome.zarr", "uint8", "CZYX", (1, 6, 263, 263), (3.0, 0.0851964, 0.0851964), ("Channel 0",)),
    Sample("ome_zarr/mitotic_plate_zyx.ome.zarr", "uint8", "CZYX", (1, 6, 131, 131), (3.0, 0.1703929, 0.1703929), ("Channel 0",), {"level": 1}),
    Sample("ome_zarr/image-03_zyx.ome.zarr", "float64", "CZYX", (1, 2, 100, 100), (1.0, 1.0, 1.0)),
    Sample("ome_zarr/blobs_v04.ome.zarr", "float64", "CYX", (3, 12, 12), None, ("0", "1", "2")),
    Sample("ome_zarr/blobs_v05.ome.zarr", "float64", "CYX", (3, 12, 12), None, ("0", "1", "2")),
    Sample("nifti/anatomical.nii", "int16", "CZYX", (1, 25, 41, 33), (2000, 2000, 2000)),
    Sample("nifti/functional.nii", "int16", "CTZYX", (1, 20, 3, 21, 17), (2.0, 8000, 4000, 4000)),
    Sample("nifti/example4d.nii.gz", "int16", "CTZYX", (1, 2, 24, 96, 128), (2000, 2199.999, 2000, 2000)),
    Sample("nifti/example_nifti2.nii.gz", "int16", "CTZYX", (1, 2, 12, 20, 32), (2000, 2199.999, 2000, 2000)),
    Sample("nifti/test.mgz", "float32", "CTZYX", (1, 2, 5, 4, 3), (0.002, 1000, 1000, 1000)),
    Sample("dicom/ct_128_int16.dcm", "int16", "CYX", (1, 128, 128), (661.468, 661.468)),
    *(Sample(f"dicom/mr_64_{kind}.dcm", "int16", "CYX", (1, 64, 64), (312.5, 312.5)) for kind in ("int16", "bigendian", "rle", "jpeg2000_lossless")),
    Sample("dicom/mr_overlay_uint16.dcm", "uint16", "CYX", (1, 300, 484), (723.1405, 723.1405)),
    Sample("dicom/us_rgb.dcm", "uint8", "CYX", (3, 240, 320), None, RGB),
    Sample("dicom/us_palette_colour.dcm", "uint16", "CYX", (3, 350, 800), None, RGB),
    Sample("dicom/us_ybr422_jpeg_30frames.dcm", "uint8", "CTYX", (3, 30, 240, 320), (0.033333, NAN, NAN), RGB),
    Sample("dicom/sc_rgb_16bit_rle.dcm", "uint16", "CYX", (3, 100, 100), (1000, 1000), RGB),
    Sample("dicom/sc_rgb_2frames_rle.dcm", "uint8", "CTYX", (3, 2, 100, 100), (NAN, 1000, 1000), RGB, {"axes": "TYXS"}),
    Sample("dicom/ot_deflated.dcm", "uint8", "CYX", (1, 512, 512)),
    Sample("dicom/rtdose_15frames_uint32.dcm", "uint32", "CZYX", (1, 15, 10, 10), (5000, 10000, 10000)),
]  # fmt: skip
ELSEWHERE = {"dicom/series_mr700": "a folder of slices", "dicom/broken_truncated_pixels.dcm": "refused"}
"""Tested in test_real_files.py."""


def told(sample: Sample) -> str:
    return f"{sample.name} {sample.given or ''}".strip()


@pytest.mark.parametrize("sample", SAMPLES, ids=told)
def test_a_sample_is_read_as_its_file_states(real, sample):
    path = real(f"formats/{sample.name}")
    images = read_images(path, **sample.given)
    assert (len(images), images.record.axes, images.shape) == (1, sample.axes, sample.shape)
    assert images.record.channels == sample.channels
    wanted = None if sample.spacing is None else pytest.approx(sample.spacing, rel=1e-4, nan_ok=True)
    assert images.record.spacing == wanted
    expected, stored = independent(path, sample.given)
    assert stored.newbyteorder("=") == np.dtype(sample.stored)
    values = images.tensor()[0].double().numpy()
    for measured in (np.sum, np.max, np.min, np.std):
        assert measured(values) == pytest.approx(measured(expected), rel=1e-5, abs=1e-5)


@pytest.mark.parametrize(
    "sample", [sample for sample in SAMPLES if "level" not in sample.given and sample.given], ids=told
)
def test_what_must_be_given_is_asked_for(real, sample):
    path = real(f"formats/{sample.name}")
    with pytest.raises(BadImage, match=f"{next(iter(sample.given))}="):
        read_images(path)


def test_no_sample_is_left_out():
    if not FORMATS.is_dir():
        pytest.skip("the samples are not beside the checkout")
    folders = [*FORMATS.rglob("*.ome.zarr"), FORMATS / "dicom" / "series_mr700"]
    files = [
        path
        for path in FORMATS.rglob("*")
        if path.is_file()
        and path.parent.name != "licences"
        and path.name != "README.md"
        and not set(path.parents) & set(folders)
    ]
    there = {str(path.relative_to(FORMATS)) for path in (*folders, *files)}
    assert there == {sample.name for sample in SAMPLES} | set(ELSEWHERE)


def independent(path: Path, given: dict[str, Any]) -> tuple[np.ndarray, np.dtype]:
    """Return the numbers as the format's own library gives them, in the range that pellucid states, and their stored type."""
    if path.name.endswith((".nii", ".nii.gz", ".mgz")):
        image = pytest.importorskip("nibabel").load(path)
        return image.get_fdata(), image.get_data_dtype()
    if path.name.endswith(".dcm"):
        return dicom(path)
    stored = picture(path, given)
    return stored / (np.iinfo(stored.dtype).max if stored.dtype.kind in "iu" else 1), stored.dtype


def picture(path: Path, given: dict[str, Any]) -> np.ndarray:
    if path.name.endswith(".zarr"):
        group = zarr.open_group(path, mode="r")
        inner = group["0"] if isinstance(group["0"], zarr.Group) else group
        return np.asarray(inner[str(given.get("level", 0))][...])
    if path.name.endswith(".png"):
        with Image.open(path) as opened:
            return np.asarray(opened).astype(np.uint16)
    with tifffile.TiffFile(path) as file:
        return file.series[given.get("series", 0)].asarray()


def dicom(path: Path) -> tuple[np.ndarray, np.dtype]:
    pydicom = pytest.importorskip("pydicom")
    data = pydicom.dcmread(path)
    pixels = data.pixel_array
    if data.PhotometricInterpretation == "PALETTE COLOR":
        pixels = pydicom.pixels.apply_color_lut(pixels, data)
    if pixels.shape[-1] == 3:
        return pixels / np.iinfo(pixels.dtype).max, pixels.dtype
    slope = float(data.get("DoseGridScaling", data.get("RescaleSlope", 1)))
    return pixels * slope + float(data.get("RescaleIntercept", 0)), pixels.dtype
