"""Import the peers without torchvision, whose published builds do not fit a CPU torch: an empty stand-in takes its place."""

import importlib
import sys
import warnings
from types import ModuleType

from torch import nn

__all__ = ["peer", "without_torchvision"]

_WANTED = {
    "torchvision": (),
    "torchvision.models": (),
    "torchvision.models.vgg": ("VGG",),
    "torchvision.models.resnet": ("BasicBlock", "Bottleneck"),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
    "torchvision.ops": ("box_iou",),
}
"""What zennit, pytorch-grad-cam and Quantus name while they are imported; none of it is used by what is compared here."""


def without_torchvision(**blocks: type[nn.Module]) -> None:
    """Put the stand-in where torchvision would be; `blocks` are taken for its residual blocks, which zennit looks for."""
    for path, names in _WANTED.items():
        module = sys.modules.setdefault(path, ModuleType(path))
        for name in names:
            if not hasattr(module, name):
                setattr(module, name, blocks.get(name, type(name, (nn.Module,), {})))
        parent, _, child = path.rpartition(".")
        if parent:
            setattr(sys.modules[parent], child, module)


def peer(name: str, **blocks: type[nn.Module]) -> ModuleType:
    """Import a peer (or a module of one), its warnings while it is imported apart."""
    without_torchvision(**blocks)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return importlib.import_module(name)
