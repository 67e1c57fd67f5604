"""Import the peers without torchvision, whose published builds do not fit a CPU torch: an empty stand-in takes its place."""

import importlib
import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

from torch import nn

__all__ = ["peer"]

_WANTED = {
    "torchvision": (),
    "torchvision.models": (),
    "torchvision.models.vgg": ("VGG",),
    "torchvision.models.resnet": ("BasicBlock", "Bottleneck"),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
}
"""What zennit, pytorch-grad-cam and Quantus name while they are imported; none of it is used by what is compared here."""


@contextmanager
def _stand_in() -> Iterator[None]:
    before = {path: sys.modules.get(path) for path in _WANTED}
    for path, names in _WANTED.items():
        module = ModuleType(path)
        for name in names:
            setattr(module, name, type(name, (nn.Module,), {}))
        sys.modules[path] = module
        parent, _, child = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)
    try:
        yield
    finally:
        for path, module in before.items():
            if module is None:
                del sys.modules[path]
            else:
                sys.modules[path] = module


def peer(name: str) -> ModuleType:
    """Import a peer, or a module of one; what it warns of while it is imported is its own affair."""
    if name in sys.modules:
        return sys.modules[name]
    with _stand_in(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
