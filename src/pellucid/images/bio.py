"""Microscopes' own formats (CZI, LIF, ND2) through bioio and its plugins."""

import math
from dataclasses import replace
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.errors import BadImage
from pellucid.images.axes import RawImage
from pellucid.images.levels import chosen_series
from pellucid.images.quiet import quiet
from pellucid.images.reader import Reader, Wanted, named, needed, refuse_too_large
from pellucid.images.units import positive

__all__ = ["MICROSCOPES", "read_bio"]

PLUGINS = {".czi": "bioio-czi", ".lif": "bioio-lif", ".nd2": "bioio-nd2"}


def read_bio(path: Path, wanted: Wanted) -> RawImage:
    """Read one scene with its pixel size and channel names.

    Raises
    ------
    BadImage
        When the plugin of the format is not installed (the sentence names it), the file is corrupt, or it holds several
        scenes of which none was chosen.
    """
    bioio = needed("bioio", "bio", path)
    unsupported = needed("bioio_base", "bio", path).exceptions.UnsupportedFileFormatError
    with (
        named(path, "the file is corrupt, incomplete or of a kind that cannot be read"),
        quiet("bioio", "bioio.bio_image", "bioio_base"),
    ):
        try:
            image = bioio.BioImage(path)
        except (unsupported, ImportError):
            plugin = PLUGINS.get(path.suffix.lower(), "the plugin of its format")
            if find_spec(plugin.replace("-", "_")) is not None:
                raise BadImage(
                    f"{path}: the file is corrupt, incomplete or of a kind that {plugin} cannot read"
                ) from None
            raise BadImage(f"{path}: reading it needs bioio's plugin {plugin}; pip install {plugin}") from None
        raw = _scene(image, path, wanted)
        return _zeiss(raw, path, len(image.scenes)) if path.suffix.lower() == ".czi" else raw


def _zeiss(raw: RawImage, path: Path, named_scenes: int) -> RawImage:
    """Put right what bioio's plugin for CZI leaves as the file has it.

    Colours lie in the file with blue first. Of scenes that the metadata do not name, the plugin would give the first and say nothing
    of the others.
    """
    if find_spec("aicspylibczi") is None:
        return raw
    with path.open("rb") as stream:
        file = import_module("aicspylibczi").CziFile(stream)
        scenes = max((shape["S"][1] for shape in file.get_dims_shape() if "S" in shape), default=1)
        blue_first = str(file.pixel_type).startswith("bgr")
    if scenes > named_scenes:
        raise BadImage(
            f"{path}: it holds {scenes} scenes and its metadata names {named_scenes}, so that none can be chosen; save each as a file"
        )
    axes = raw.axes or ""
    if not blue_first or "S" not in axes:
        return raw
    return replace(raw, array=np.flip(raw.array, axes.index("S")), channels=("red", "green", "blue"))


def _scene(image: Any, path: Path, wanted: Wanted) -> RawImage:
    image.set_scene(chosen_series(list(image.scenes), wanted, path))
    axes = str(image.dims.order)
    refuse_too_large(math.prod(image.shape), wanted.limit, path)
    sizes = image.physical_pixel_sizes
    spacing = {axis: float(getattr(sizes, axis)) for axis in "ZYX" if getattr(sizes, axis) is not None}
    names = [str(name) for name in image.channel_names or ()]
    return RawImage(np.asarray(image.data), axes, positive(spacing), tuple(names) or None)


MICROSCOPES = Reader(
    name="CZI, LIF, ND2",
    suffixes=tuple(PLUGINS),
    read=read_bio,
    takes=frozenset({"series"}),
    extra="bio",
    reads="one scene with its axes, pixel size and channel names, by bioio's plugin of the format (`pip install bioio-czi`, `-lif`, `-nd2`); CZI is tested "
    "with files that Zeiss's own library writes, LIF and ND2 are not tested with real files",
    refuses="several scenes unless `series=` chooses one; CZI scenes that its metadata do not name; a format whose plugin is not installed, by the plugin's name",
)
