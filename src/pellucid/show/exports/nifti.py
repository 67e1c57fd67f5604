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
        affine = affine_of(content, image, pixels.shape[1:])
        several = [f".c{place}" for place in range(len(pixels))] if len(pixels) > 1 else [""]
        for suffix, channel in zip(several, pixels, strict=True):
            _write(folder / f"{stem}{suffix}.nii.gz", channel, affine, "image")
        for method, values in maps.items():
            _write(folder / f"{stem}.{_plain(method)}.nii.gz", values, affine, method)
        for name, mask in masks.items():
            _write(folder / f"{stem}.mask-{_plain(name)}.nii.gz", mask, affine, name)


def _plain(text: str) -> str:
    return re.sub(r"[^A-Za-z0-9]+", "_", text).strip("_")


def affine_of(content: Content, image: str, shape: tuple[int, ...]) -> Array:
    """Return the affine ``(4, 4)`` from voxel to world in millimetres.

    It is that of the NIfTI file that the image was read from, fitted to the size at which the study reads it; without such a
    file it says the pixel size alone.
    """
    source = content.source(image)
    if source is not None and source.name.endswith((".nii", ".nii.gz")):
        header = import_module("nibabel").load(source)
        before = np.asarray(header.shape[: len(shape)], float)
        return _resized(np.asarray(header.affine, float), before, np.asarray(shape[::-1], float))
    spacing = content.record.spacing or (_MICROMETRES,) * len(shape)
    steps = [step / _MICROMETRES if step == step else 1.0 for step in spacing[::-1]]  # NaN differs from itself
    return np.diag([*steps, *(1.0,) * (3 - len(steps)), 1.0])


def _resized(affine: Array, before: Array, after: Array) -> Array:
    """Return the affine of the same field of view with other voxels."""
    factor, moved = np.ones(3), affine.copy()
    factor[: len(before)] = before / after
    moved[:3, :3] = affine[:3, :3] * factor
    moved[:3, 3] = affine[:3, 3] + affine[:3, :3] @ ((factor - 1) / 2)
    return moved


def _write(path: Path, values: Array, affine: Array, told: str) -> None:
    nibabel: Any = import_module("nibabel")
    turned = np.ascontiguousarray(values.transpose())  # NIfTI counts X first
    made = nibabel.Nifti1Image(turned, affine)
    made.header.set_xyzt_units("mm")
    made.header["descrip"] = f"{told[:40]}; {STAMP[:17]}".encode()[:79]
    nibabel.save(made, path)
