"""A phantom on disk: an ordinary folder of images, with the truth that a finder may not see kept apart."""

import csv
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image
from rich.progress import track
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageSet

__all__ = ["write_phantom"]

_MASKS = ("object", "truth")
_BLACK_AND_WHITE = (0, 0, 0, 255, 255, 255)


def write_phantom(images: ImageSet, factors: pa.Table, folder: str | Path, *, progress: bool = False) -> Path:
    """Write images and masks as eight-bit PNG with ``labels.csv``; factor values stay apart.

    ``read_images(folder, labels="labels.csv", masks=["object", "truth"], split="split", group="group")``
    reads it and the pixels come back exactly. Mask files hold 0 and 1, with a palette that shows black and white.
    The factors go to ``factors.parquet``, which no reader of images opens.

    Parameters
    ----------
    images
        Two spatial axes, one or three channels, labels, the masks ``"object"`` and ``"truth"``.
    factors
        One row an image.
    folder
        Made if missing; files of the same names are replaced.
    progress
        Whether to show a progress bar.

    Returns
    -------
    Path
        The folder.

    Raises
    ------
    BadImage
        When the images are no pictures that PNG can hold.
    """
    if images.record.spatial != "YX" or images.shape[0] not in {1, 3}:
        raise BadImage(f"PNG holds one or three channels in YX; these are {images.record.axes} {images.shape}")
    root = Path(folder)
    for part in ("images", *(f"masks/{mask}" for mask in _MASKS)):
        (root / part).mkdir(parents=True, exist_ok=True)
    shown = track(images.ids, "painting images", disable=not progress)
    rows = [_write_image(images, image, root) for image in shown]
    with (root / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, ("image", "label", "split", "group", *_MASKS))
        writer.writeheader()
        writer.writerows(rows)
    pq.write_table(factors, root / "factors.parquet")
    return root


def _write_image(images: ImageSet, image: str, root: Path) -> dict[str, str]:
    file = f"{image}.png"
    pixels = np.rint(images.load(image).numpy() * 255.0).astype(np.uint8)
    Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1)).save(root / "images" / file)
    row = {"image": f"images/{file}", "label": images.classes[images.label([image])[0]]}
    row |= {column: str(images.column(column, [image])[0]) for column in ("split", "group")}
    for mask in _MASKS:
        _write_mask(images.mask(mask, [image])[0], root / "masks" / mask / file)
        row[mask] = f"masks/{mask}/{file}"
    return row


def _write_mask(mask: Tensor | None, path: Path) -> None:
    if mask is not None:
        picture = Image.fromarray(mask.numpy().astype(np.uint8))
        picture.putpalette(_BLACK_AND_WHITE)
        picture.save(path)
