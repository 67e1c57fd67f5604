"""DICOM: maps as a Parametric Map, masks as a Segmentation, and a picture with a stamp as Secondary Capture."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw
from skimage.transform import resize

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.show.colour import DIVERGING, GREYS, full_colour
from pellucid.show.exports.content import STAMP, Array, Content
from pellucid.show.exports.dicom_header import Sources, sources_of
from pellucid.show.figure import palette_of
from pellucid.show.picture import rgb

__all__ = ["write_dicom"]

_SMALLEST = 256
"""Shortest side of the picture, so that the stamp can be read."""


def write_dicom(content: Content, folder: Path) -> None:
    """Write ``NAME.map.dcm``, ``NAME.mask.dcm`` and one ``NAME.picture-N.dcm`` a method for every image, each with new identifiers.

    They refer to the source by its identifiers, so that viewers lay them over it; who is shown, when and where is not copied.

    Raises
    ------
    BadStudy
        For images that are neither YX nor ZYX.
    """
    if content.record.spatial not in {"YX", "ZYX"}:
        raise BadStudy(
            f"DICOM holds images of axes YX or ZYX, and these are {content.record.spatial}; export to ome-zarr"
        )
    for image, stem in content.stems.items():
        maps = {method: _planes(values) for method, values in content.maps(image).items()}
        masks = {name: _planes(mask) for name, mask in content.masks(image).items()}
        pixels = content.pixels(image)
        sources = sources_of(content, image, _planes(pixels[0]).shape)
        if maps:
            fitted = np.stack([_fitted(values, sources.size) for values in maps.values()], axis=-1)
            _parametric_map(sources, fitted, tuple(maps)).save_as(folder / f"{stem}.map.dcm")
        marked = {name: _fitted(mask, sources.size, labels=True) > 0 for name, mask in masks.items()}
        marked = {name: mask for name, mask in marked.items() if mask.any()}
        if marked:
            _segmentation(sources, marked).save_as(folder / f"{stem}.mask.dcm")
        for place, (method, values) in enumerate(maps.items(), start=1):
            drawn = _picture(content, pixels, values, method)
            _secondary_capture(sources, drawn, place).save_as(folder / f"{stem}.picture-{place}.dcm")


def _planes(values: Array) -> Array:
    return values[None] if values.ndim == 2 else values


def _fitted(values: Array, size: tuple[int, int], *, labels: bool = False) -> Array:
    """Return planes at the source's rows and columns, where the study reads the images at another size."""
    if values.shape[1:] == size:
        return values
    order = 0 if labels else 1
    made: Array = resize(  # type: ignore[no-untyped-call]
        values, (len(values), *size), order=order, mode="edge", anti_aliasing=False, preserve_range=True
    )
    return made.astype(values.dtype)


def _common(number: int) -> dict[str, Any]:
    highdicom, version = import_module("highdicom"), import_module("importlib.metadata").version("pellucid")
    return {
        "series_instance_uid": highdicom.UID(), "series_number": number, "sop_instance_uid": highdicom.UID(), "instance_number": 1,
        "manufacturer": "pellucid", "manufacturer_model_name": "pellucid", "software_versions": version,
        "device_serial_number": "none", "series_description": STAMP,
    }  # fmt: skip


def _parametric_map(sources: Sources, values: Array, methods: tuple[str, ...]) -> Any:
    highdicom, codes = import_module("highdicom"), import_module("pydicom.sr.codedict").codes
    mappings = [
        [highdicom.pm.RealWorldValueMapping(
            lut_label=f"map {place + 1}", lut_explanation=method[:64], unit=codes.UCUM.NoUnits,
            value_range=(float(values[..., place].min()), float(values[..., place].max())), slope=1.0, intercept=0.0,
        )]
        for place, method in enumerate(methods)
    ]  # fmt: skip
    width = max(2 * full_colour(values), 1e-6)
    return highdicom.pm.ParametricMap(
        list(sources.headers), values.astype(np.float32), real_world_value_mappings=mappings,
        contains_recognizable_visual_features=False, content_label="RELEVANCE", content_description="signed relevance",
        voi_lut_transformations=[highdicom.VOILUTTransformation(window_center=0.0, window_width=width)], **_common(9001),
    )  # fmt: skip


def _segmentation(sources: Sources, masks: dict[str, Array]) -> Any:
    highdicom, codes = import_module("highdicom"), import_module("pydicom.sr.codedict").codes
    described = [
        highdicom.seg.SegmentDescription(number, name[:64], codes.SCT.Tissue, codes.SCT.Tissue, "MANUAL")
        for number, name in enumerate(masks, start=1)
    ]
    pixels = np.stack([mask.astype(np.uint8) for mask in masks.values()], axis=-1)
    return highdicom.seg.Segmentation(
        list(sources.headers), pixels, "BINARY", described, content_label="MASKS", **_common(9002)
    )


def _picture(content: Content, pixels: Array, values: Array, method: str) -> Array:
    """Return image and map side by side on the plane with most relevance, with the stamp burned in, uint8 ``(Y, X, 3)``."""
    plane = int(np.abs(values).sum((1, 2)).argmax())
    shown = pixels if pixels.ndim == 3 else pixels[:, plane]
    left = Image.fromarray(np.asarray(rgb(torch.from_numpy(shown), content.record.display_range)))
    right = Image.fromarray(_coloured(values[plane], full_colour(values) or 1.0, palette_of(METHODS.parse(method))))
    factor = max(1, -(-_SMALLEST // min(left.size)))
    size = (left.width * factor, left.height * factor)
    page = Image.new("RGB", (2 * size[0], size[1] + 44), "black")
    for place, half in enumerate((left, right)):
        page.paste(half.resize(size, Image.Resampling.NEAREST), (place * size[0], 0))
    draw = ImageDraw.Draw(page)
    draw.text((4, size[1] + 4), STAMP, fill="white")
    draw.text((4, size[1] + 24), f"{method}; plane {plane + 1} of {len(values)}; white is zero"[:90], fill="white")
    return np.asarray(page)


def _coloured(values: Array, scale: float, palette: str) -> Array:
    anchors = np.array(DIVERGING if palette == "signed" else GREYS, float)
    places = np.linspace(-1, 1, len(anchors))
    bands = [np.interp(np.clip(values / scale, -1, 1), places, anchors[:, band]) for band in range(3)]
    return np.stack(bands, axis=-1).round().astype(np.uint8)


def _secondary_capture(sources: Sources, picture: Array, number: int) -> Any:
    highdicom = import_module("highdicom")
    common = _common(9003)
    for name in ("manufacturer_model_name", "software_versions", "device_serial_number"):
        del common[name]
    return highdicom.sc.SCImage(
        pixel_array=picture, photometric_interpretation="RGB", bits_allocated=8, coordinate_system="PATIENT",
        study_instance_uid=sources.headers[0].StudyInstanceUID, patient_orientation=("L", "P"),
        **common | {"instance_number": number},
    )  # fmt: skip
