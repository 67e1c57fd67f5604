"""Image files to test readers with: a small sound one of every format, and the same ones damaged at random."""

import gzip
import shutil
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tifffile
import zarr
from PIL import Image

__all__ = ["damaged", "reading", "sample_files", "write_damaged"]

EXTREMES = (0, 1, 2**7, 2**8 - 1, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)


def sample_files(folder: Path) -> tuple[Path, ...]:
    """Write a small sound file of every format that this installation reads, and return their paths.

    Parameters
    ----------
    folder
        Where to write; made if it is not there.
    """
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(5)
    colours = rng.integers(0, 256, (20, 16, 3), dtype=np.uint8)
    _pictures(folder, colours)
    _tiffs(folder, colours, rng)
    _arrays(folder, colours, rng)
    _store(folder / "v2.ome.zarr", colours[..., 0], 2)
    _store(folder / "v3.ome.zarr", colours[..., 0], 3)
    if find_spec("tiffslide") is not None:
        settings: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "metadata": None}
        tifffile.imwrite(
            folder / "slide.svs",
            np.tile(colours, (3, 3, 1)),
            description="Aperio Image Library\nTest|MPP = 0.5",
            **settings,
        )
    if find_spec("nibabel") is not None:
        _scans(folder, import_module("nibabel"), rng)
    if find_spec("pydicom") is not None:
        _dicom(folder, import_module("pydicom"), colours)
    return tuple(sorted(folder.iterdir()))


def reading(path: Path) -> dict[str, Any]:
    """Return what `read_images` needs to be told of a sample: a slide is read in tiles, at a pixel size."""
    return {"um_per_px": 0.5, "tile": 16} if path.suffix == ".svs" else {}


def _pictures(folder: Path, colours: np.ndarray) -> None:
    Image.fromarray(colours).save(folder / "rgb.png")
    Image.fromarray(colours[..., 0].astype(np.uint16) * 200).save(folder / "grey16.png")
    Image.fromarray(colours[..., 0] % 7).convert("P").save(folder / "palette.png")
    Image.fromarray(colours).save(folder / "rgb.jpg")


def _tiffs(folder: Path, colours: np.ndarray, rng: np.random.Generator) -> None:
    tifffile.imwrite(folder / "plain.tif", colours, photometric="rgb")
    tifffile.imwrite(
        folder / "packed.tif", colours, photometric="rgb", compression="zlib", predictor=True, tile=(16, 16)
    )
    stack = rng.integers(0, 65536, (3, 2, 12, 10), dtype=np.uint16)
    tifffile.imwrite(folder / "imagej.tif", stack, imagej=True, metadata={"axes": "ZCYX", "unit": "um", "spacing": 2.0})
    metadata = {"axes": "TCYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.5, "Channel": {"Name": ["a", "b"]}}
    tifffile.imwrite(folder / "stack.ome.tif", stack, metadata=metadata, ome=True, photometric="minisblack")
    with tifffile.TiffWriter(folder / "pyramid.tif") as file:
        settings: dict[str, Any] = {"photometric": "rgb", "tile": (16, 16), "compression": "zlib", "metadata": None}
        file.write(
            np.tile(colours, (2, 2, 1)), subifds=1, resolution=(20000, 20000), resolutionunit="CENTIMETER", **settings
        )
        file.write(colours, subfiletype=1, **settings)
    tifffile.imwrite(folder / "float.tif", rng.normal(size=(12, 10)).astype(np.float32))


def _arrays(folder: Path, colours: np.ndarray, rng: np.random.Generator) -> None:
    np.save(folder / "plane.npy", rng.normal(size=(12, 10)))
    parts: dict[str, Any] = {f"{split}_{what}": colours[None, ...].repeat(2, 0) if what == "images" else np.array([[0], [1]], np.uint8)
             for split in ("train", "test") for what in ("images", "labels")}  # fmt: skip
    np.savez_compressed(folder / "set.npz", **parts)


def _store(path: Path, plane: np.ndarray, version: Literal[2, 3]) -> None:
    scale = [{"type": "scale", "scale": [0.5, 0.5]}]
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    stated: dict[str, Any] = {
        "multiscales": [
            {"axes": axes, "version": "0.4", "datasets": [{"path": "0", "coordinateTransformations": scale}]}
        ]
    }
    group = zarr.open_group(path, mode="w", zarr_format=version)
    group.attrs.update(stated if version == 2 else {"ome": {"version": "0.5", **stated}})
    group.create_array("0", data=plane, chunks=(8, 8))


def _scans(folder: Path, nibabel: Any, rng: np.random.Generator) -> None:
    values = rng.integers(-1000, 1000, (6, 5, 4)).astype(np.int16)
    image = nibabel.Nifti1Image(values, np.diag([2.0, 2.0, 3.0, 1.0]))
    nibabel.save(image, folder / "scan.nii")
    (folder / "packed.nii.gz").write_bytes(gzip.compress((folder / "scan.nii").read_bytes(), mtime=0))
    nibabel.save(nibabel.MGHImage(values.astype(np.float32), np.eye(4)), folder / "scan.mgz")


def _dicom(folder: Path, pydicom: Any, colours: np.ndarray) -> None:
    grey = colours[..., 0].astype(np.uint16)
    plain, packed, deflated = (
        getattr(pydicom.uid, name)
        for name in ("ExplicitVRLittleEndian", "RLELossless", "DeflatedExplicitVRLittleEndian")
    )
    for name, pixels, syntax in (
        ("grey", grey, plain),
        ("rgb", colours, plain),
        ("rle", grey, packed),
        ("deflated", grey, deflated),
    ):
        made = _dataset(pydicom, pixels)
        if syntax == packed:
            made.compress(packed)
        else:
            made.file_meta.TransferSyntaxUID = syntax
        made.save_as(folder / f"{name}.dcm", enforce_file_format=True)


def _dataset(pydicom: Any, pixels: np.ndarray) -> Any:
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = pydicom.uid.ExplicitVRLittleEndian
    made.file_meta.MediaStorageSOPClassUID = made.SOPClassUID = pydicom.uid.CTImageStorage
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID = "1.2.3.4.5"
    made.PatientName, made.SeriesInstanceUID = "Doe^Jane", "1.2.3.4"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel, made.PhotometricInterpretation = (3, "RGB") if pixels.ndim == 3 else (1, "MONOCHROME2")
    made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.dtype.itemsize
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, 0
    made.PixelSpacing, made.RescaleSlope, made.RescaleIntercept = [0.5, 0.5], 1, -1024
    made.ImagePositionPatient, made.ImageOrientationPatient = [0, 0, 0], [1, 0, 0, 0, 1, 0]
    made.PixelData = pixels.tobytes()
    return made


def damaged(data: bytes, rng: np.random.Generator) -> bytes:
    """Return bytes with one to three things wrong: cut, bits turned, numbers made extreme, parts moved, lost or doubled.

    Half of all damage falls on the first five hundred bytes, where files keep their headers.
    """
    changed = bytearray(data)
    for _ in range(int(rng.integers(1, 4))):
        if not changed:
            return b""
        end = min(len(changed), 500) if rng.random() < 0.5 else len(changed)
        at = int(rng.integers(0, end))
        length = int(rng.integers(1, 65))
        match int(rng.integers(0, 7)):
            case 0:
                del changed[at:]
            case 1:
                for place in rng.integers(0, end, int(rng.integers(1, 9))):
                    changed[int(place)] ^= 1 << int(rng.integers(0, 8))
            case 2:
                size = int(rng.choice([1, 2, 4, 8]))
                number = int(EXTREMES[int(rng.integers(0, len(EXTREMES)))]) % 2 ** (8 * size)
                changed[at : at + size] = number.to_bytes(size, "little" if rng.random() < 0.5 else "big")
            case 3:
                changed[at : at + length] = rng.bytes(length)
            case 4:
                del changed[at : at + length]
            case 5:
                changed[at:at] = changed[at : at + length]
            case _:
                changed[at : at + length] = bytes([int(rng.choice([0, 255, 32]))]) * length
    return bytes(changed)


def write_damaged(sample: Path, folder: Path, seed: int) -> Path:
    """Write a damaged copy of a sample, of one of its files where it is a folder, and return its path.

    The same sample and seed give the same copy.
    """
    rng = np.random.default_rng([seed, *sample.name.encode()])
    target = folder / sample.name
    if not sample.is_dir():
        target.write_bytes(damaged(sample.read_bytes(), rng))
        return target
    shutil.copytree(sample, target)
    inner = sorted(path for path in target.rglob("*") if path.is_file())
    chosen = inner[int(rng.integers(0, len(inner)))]
    chosen.write_bytes(damaged(chosen.read_bytes(), rng))
    return target
