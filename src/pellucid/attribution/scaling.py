"""Linear resizing of maps in any number of axes."""

from torch import Tensor
from torch.nn import functional

__all__ = ["resized"]


def resized(values: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Return ``(N, C, *S)`` linearly interpolated to the spatial `shape`, pixel centres aligned, never overshooting."""
    for axis, length in enumerate(shape, start=2):
        if values.shape[axis] != length:
            lines = values.movedim(axis, -1)
            flat = lines.reshape(-1, 1, lines.shape[-1])
            flat = functional.interpolate(flat, size=length, mode="linear", align_corners=False)
            values = flat.reshape(*lines.shape[:-1], length).movedim(-1, axis)
    return values.contiguous()
