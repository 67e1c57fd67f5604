"""NIfTI: one signed float volume a method and one label volume a mask, with the affine of the image they belong to."""

import re
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadStudy
from pellucid.show.exports.content import STAMP, Array, Content

__all__ = ["affine_of", "write_nifti"]

_MICROMETRES = 1000.0


def write_nifti(content: Content, folder: Path) -> None:
    """Write ``NAME.nii.gz``, ``NAME.METHOD.nii.gz`` and ``NAME.mask-MASK.nii.gz`` for every image.

    Raises
    ------
    BadStudy
        For images that are neither YX nor ZYX.
    """
    if content.record.spatial not in {"YX", "ZYX"}:
        raise BadStudy(
            f"NIfTI holds images of axes YX or ZYX, and these are {content.record.spatial}; export to ome-zarr"
        )
    for image, stem in content.stems.items():
        pixels, maps, masks = content.pixels(image), content.maps(image), content.masks(image)
        affine = affine_of(content, image)
        several = [f".c{place}" for place in range(len(pixels))] if len(pixels) > 1 else [""]
        for suffix, channel in zip(several, pixels, strict=True):
            _write(folder / f"{stem}{suffix}.nii.gz", channel, affine, "image")
        for method, values in maps.items():
            _write(folder / f"{stem}.{_plain(method)}.nii.gz", values, affine, method)
        for name, mask in masks.items():
            _write(folder / f"{stem}.mask-{_plain(name)}.nii.gz", mask, affine, name)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def affine_of(content: Content, image: str) -> Array:
    """Return the affine ``(4, 4)`` from voxel X, Y, Z to the patient in millimetres: the image's own, else its pixel size alone.

    A single plane gets a third direction that is at right angles to it.
    """
    record = content.study.images.record_of(image)
    made = np.eye(4)
    if record.affine is None:
        steps = [
            1.0 if step != step else step / _MICROMETRES for step in record.spacing or ()
        ]  # NaN differs from itself
        made[range(len(steps)), range(len(steps))] = steps[::-1]
        return made
    known = np.array(record.affine)
    axes = known[:3, -2::-1]  # X first, as NIfTI counts
    made[:3, : axes.shape[1]], made[:3, 3] = axes, known[:3, -1]
    if axes.shape[1] == 2:
        across = np.cross(axes[:, 0], axes[:, 1])
        made[:3, 2] = across / max(float(np.linalg.norm(across)), np.finfo(float).tiny)
    return made


def _write(path: Path, values: Array, affine: Array, told: str) -> None:
    nibabel: Any = import_module("nibabel")
    turned = np.ascontiguousarray(values.transpose())  # NIfTI counts X first
    made = nibabel.Nifti1Image(turned, affine)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = f"{told[:40]}; {STAMP[:17]}".encode()[:79]
    nibabel.save(made, path)
