"""One mask on demand, as whole numbers on the pixels of its image."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.axes import Array, RawImage, arrange
from pellucid.images.decode import decode
from pellucid.images.loading import Reading, Source
from pellucid.images.mask_grid import laid_on
from pellucid.images.reader import Wanted
from pellucid.images.resize import resized_mask

__all__ = ["MaskLoader"]


@dataclass(frozen=True)
class MaskLoader:
    """Reads the mask of one image, int64 ``(*S)``; None where the image has none.

    Label images keep their numbers, one-bit files become 0 and 1.
    """

    files: Mapping[str, str]
    source: Source
    reading: Reading
    axes: str
    shape: tuple[int, ...]
    wanted: Wanted

    def __call__(self, image: str) -> Tensor | None:
        """Return the mask, or refuse its file in one sentence."""
        if image not in self.files:
            return None
        name = self.files[image]
        raw = decode(Path(name), wanted=self.wanted)
        if raw.placing is not None:
            raw = laid_on(self.source(image), raw, name)
        mask = _whole(self._arranged(raw, name), name)
        if mask.shape != (stored := self._stored_shape(image)):
            raise BadImage(f"{name}: the mask has shape {mask.shape}, but its image {image} has {self.axes} {stored}")
        return torch.from_numpy(np.ascontiguousarray(resized_mask(mask, self.shape)))

    def _stored_shape(self, image: str) -> tuple[int, ...]:
        """Only before a resize can a mask be seen not to fit: afterwards everything has one shape."""
        if self.reading.size is None and self.reading.um_per_px is None:
            return self.shape
        return arrange(self.source(image), axes=self.reading.axes, name=image)[0].shape[1:]

    def _arranged(self, raw: RawImage, name: str) -> Array:
        array, axes = arrange(raw, axes=self._axes(raw), name=name)
        if axes[1:] != self.axes:
            raise BadImage(
                f"{name}: the mask has axes {axes[1:]} of shape {array.shape[1:]}, its image has {self.axes}"
            )
        if (array != array[:1]).any():
            raise BadImage(
                f"{name}: a mask has one number a pixel, but the file has {array.shape[0]} different channels "
                f"(axes {axes}, shape {array.shape})"
            )
        mask: Array = array[0]
        return mask

    def _axes(self, raw: RawImage) -> str | None:
        """Take the image's axes where the mask's file is silent: a mask lies on its image."""
        given = self.reading.axes
        if given is not None and len(given) == raw.array.ndim:
            return given
        stated = raw.axes is not None and set(raw.axes) <= set("CSTZYX")
        alone = (given or self.axes).replace("C", "")
        return alone if not stated and len(alone) == raw.array.ndim else None


def _whole(array: Array, name: str) -> Array:
    if array.dtype.kind not in "biuf" or (array.dtype.kind == "f" and (array != np.round(array)).any()):
        raise BadImage(f"{name}: a mask holds whole numbers, but the file holds {array.dtype} values between them")
    return array.astype(np.int64)
