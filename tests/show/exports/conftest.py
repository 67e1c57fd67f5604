from types import SimpleNamespace

import pytest
import torch

from pellucid.images import ImageRecord, ImageSet
from pellucid.show.exports.content import Content


def imagined(shape, spatial, *, spacing=None, channels=("c0",), home=None):
    """Return an export's content without a study behind it: one image, one map that is its first channel, one mask."""
    random = torch.Generator().manual_seed(0)
    image = torch.rand(len(channels), *shape, generator=random)
    values = torch.randn(1, 1, *shape, generator=random)
    mask = torch.zeros(shape, dtype=torch.int32)
    mask[tuple(slice(side // 4, side // 2) for side in shape)] = 3
    record = ImageRecord("C" + spatial, tuple(channels), spacing=spacing)
    images = ImageSet(
        ("one.png",),
        record,
        (len(channels), *shape),
        lambda name: image,
        classes=("a", "b"),
        labels=(1,),
        masks={"cell": lambda name: mask},
    )
    study = SimpleNamespace(
        images=images, maps=lambda method, ids: values, path=SimpleNamespace(resolve=lambda: SimpleNamespace(name="imagined")),
        config=SimpleNamespace(images=SimpleNamespace(path=home, object="cell"), explain=SimpleNamespace(target="predicted")),
        settings={"provenance": {"model": "ff", "versions": {"pellucid": "0"}}},
    )  # fmt: skip
    return Content(study, ("one.png",), ("saliency",)), image.numpy(), values[0, 0].numpy(), mask.numpy()


@pytest.fixture(scope="session")
def imagine():
    return imagined
