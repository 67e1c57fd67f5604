import pyarrow as pa
import pytest
import torch

from pellucid.errors import BadImage
from pellucid.images import ImageRecord, ImageSet


def bars(count=90, size=12, classes=3, broken=(), seed=0, **columns):
    """Grey images with a bright bar whose height is the class; `broken` ids cannot be read."""
    draw = torch.Generator().manual_seed(seed)
    labels = tuple(place % classes for place in range(count))
    pixels = 0.3 * torch.rand(count, 1, size, size, generator=draw)
    step = size // classes
    for place, label in enumerate(labels):
        pixels[place, 0, step * label : step * (label + 1)] += 0.7
    ids = tuple(f"image{place}" for place in range(count))
    held = dict(zip(ids, pixels, strict=True))

    def load(name):
        if name in broken:
            raise BadImage(f"{name} cannot be read: the file is cut off")
        return held[name]

    return ImageSet(
        ids=ids,
        record=ImageRecord("CYX", ("grey",)),
        shape=(1, size, size),
        load=load,
        classes=tuple("abcdefgh"[:classes]),
        labels=labels,
        metadata=pa.table({name: pa.array(values) for name, values in columns.items()}) if columns else pa.table({}),
    )


@pytest.fixture
def make_bars():
    return bars
