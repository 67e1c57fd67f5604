"""Images as pictures inside the page: data: addresses of small PNG and JPEG files, outlines and scale bars."""

import base64
import io
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from skimage.measure import approximate_polygon, find_contours
from torch import Tensor
from torch.nn.functional import interpolate

from pellucid.images import ImageRecord

__all__ = ["ScaleBar", "address", "line_path", "outline_path", "reduced", "rgb", "scale_bar"]

Array = NDArray[np.floating[Any]]
Bytes = NDArray[np.uint8]

_PSEUDO = ((230, 60, 230), (60, 220, 90), (70, 160, 255), (255, 190, 40), (255, 90, 60), (200, 200, 200))


def rgb(image: Tensor, display_range: tuple[float, float]) -> Bytes:
    """Return the colours ``(Y, X, 3)`` of a plane ``(C, Y, X)``.

    One channel is grey, three are red, green and blue; any other number gets one colour a channel, laid over each
    other as light.
    """
    low, high = display_range
    share = ((image.double() - low) / max(high - low, 1e-12)).clamp(0, 1).numpy()
    if len(share) == 1:
        share = np.repeat(share, 3, axis=0)
    elif len(share) != 3:
        colours = np.array([_PSEUDO[channel % len(_PSEUDO)] for channel in range(len(share))]) / 255
        share = 1 - np.prod(1 - share[:, None] * colours[:, :, None, None], axis=0)
    return np.asarray((255 * share).round(), dtype=np.uint8).transpose(1, 2, 0)


def reduced(plane: Array, edge: int) -> Array:
    """Return a plane no larger than `edge`, each pixel the mean of those it stands for, so that no sign is lost."""
    longest = max(plane.shape)
    if longest <= edge:
        return plane
    shape = tuple(max(1, round(size * edge / longest)) for size in plane.shape)
    small: Array = interpolate(torch.from_numpy(plane)[None, None], size=shape, mode="area")[0, 0].numpy()
    return small


def address(pixels: Bytes, *, form: Literal["PNG", "JPEG"] = "PNG", edge: int | None = None) -> str:
    """Return a picture as a ``data:`` address, made no larger than `edge`."""
    picture = Image.fromarray(pixels)
    if edge is not None and max(picture.size) > edge:
        picture.thumbnail((edge, edge), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    picture.save(file, form, **({"optimize": True} if form == "PNG" else {"quality": 85, "subsampling": 0}))
    return f"data:image/{form.lower()};base64,{base64.b64encode(file.getvalue()).decode()}"


def outline_path(mask: Tensor) -> str:
    """Return the outline of a mask ``(Y, X)`` as the SVG path of its rim, in pixels of the mask."""
    inside = np.pad((mask > 0).numpy().astype(float), 1)
    parts = []
    for contour in find_contours(inside, 0.5):  # type: ignore[no-untyped-call]
        points = approximate_polygon(contour, 0.4) - 0.5  # type: ignore[no-untyped-call]
        parts.append("M" + "L".join(f"{x:.1f} {y:.1f}" for y, x in points[:-1]) + "Z")
    return "".join(parts)


def line_path(signal: Array, low: float, high: float) -> str:
    """Return a line of values as an SVG path, one unit a sample wide and 100 high."""
    heights = 100 * (1 - (signal - low) / max(high - low, 1e-12)).clip(0, 1)
    return "M" + "L".join(f"{x + 0.5:.1f} {y:.1f}" for x, y in enumerate(heights))


@dataclass(frozen=True)
class ScaleBar:
    """A bar of a round length: its share of the picture's width, and what it says."""

    share: float
    label: str


def scale_bar(record: ImageRecord, width: int) -> ScaleBar:
    """Return a bar of about a third of the width, in micrometres where the pixel size is known, else in pixels."""
    spacing = record.spacing[-1] if record.spacing is not None else float("nan")
    step, unit = (spacing, "µm") if np.isfinite(spacing) and spacing > 0 else (1.0, "px")
    aim = 0.35 * width * step
    power = 10.0 ** np.floor(np.log10(aim))
    length = max(part * power for part in (1, 2, 5) if part * power <= aim)
    return ScaleBar(float(length / (width * step)), f"{length:g} {unit}")
