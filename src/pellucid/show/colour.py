"""Signed values as colours: blue against, white nothing, vermillion for; told apart by colour-blind readers too."""

import numpy as np
from numpy.typing import NDArray

__all__ = ["DIVERGING", "GREYS", "ZERO", "coloured", "full_colour", "shade", "signed_bytes"]

Bytes = NDArray[np.uint8]

ZERO = 128
"""The byte that stands for no relevance; 1 is the strongest evidence against, 255 the strongest for."""

DIVERGING: tuple[tuple[int, int, int], ...] = (
    (11, 60, 116), (111, 163, 210), (255, 255, 255), (240, 160, 122), (166, 50, 0),
)  # fmt: skip
"""Evenly spaced anchors from −1 to 1, alike in lightness on both sides; between them colours run straight."""


GREYS: tuple[tuple[int, int, int], ...] = ((255, 255, 255),) * 3 + ((150, 150, 155), (25, 25, 30))
"""For methods that give magnitudes: red would promise evidence for the target."""


def full_colour(values: NDArray[np.floating]) -> float:
    """Return the 99th percentile of the magnitudes, which gets full colour; the largest where that is zero; 0 for no values."""
    sizes = np.abs(values).ravel()
    if not sizes.size:
        return 0.0
    return float(np.percentile(sizes, 99) or sizes.max(initial=0.0))


def coloured(values: NDArray[np.floating], scale: float, palette: str) -> Bytes:
    """Return the colours ``(Y, X, 3)`` of a plane in which `scale` has full colour; `palette` is that of `palette_of`."""
    anchors = np.array(DIVERGING if palette == "signed" else GREYS, float)
    places, share = np.linspace(-1, 1, len(anchors)), np.clip(values / scale, -1, 1)
    bands = [np.interp(share, places, anchors[:, band]) for band in range(3)]
    return np.asarray(np.stack(bands, axis=-1).round(), dtype=np.uint8)


def signed_bytes(values: NDArray[np.floating], scale: float) -> Bytes:
    """Return values as 8-bit signed grey: `ZERO` plus 127 times value over scale, clipped at full colour."""
    share = np.clip(values / scale, -1, 1) if scale > 0 else np.zeros_like(values)
    return np.asarray(ZERO + np.round(127 * share), dtype=np.uint8)


def shade(share: float) -> str:
    """Return the CSS colour of a table cell: white at 0, a calm blue at 1, always light enough for black text."""
    strength = float(np.clip(share, 0, 1))
    red, green, blue = (round(255 + strength * (end - 255)) for end in (150, 190, 225))
    return f"rgb({red},{green},{blue})"
