"""Microscopes' own formats (CZI, LIF, ND2) through bioio and its plugins."""

import math
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
    with named(path, "the file is corrupt, incomplete or of a kind that cannot be read"), quiet("bioio", "bioio_base"):
        try:
            image = bioio.BioImage(path)
        except (unsupported, ImportError):
            plugin = PLUGINS.get(path.suffix.lower(), "the plugin of its format")
            raise BadImage(f"{path}: reading it needs bioio's plugin {plugin}; pip install {plugin}") from None
        return _scene(image, path, wanted)


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
    reads="one scene with its axes, pixel size and channel names, by bioio's plugin of the format (`pip install bioio-czi`, `-lif`, `-nd2`)",
    refuses="several scenes unless `series=` chooses one; a format whose plugin is not installed, by the plugin's name",
)
