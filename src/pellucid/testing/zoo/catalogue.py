"""Every net of the zoo, by name."""

from collections.abc import Mapping
from types import MappingProxyType

from pellucid.testing.zoo import (
    branching,
    gated,
    plain,
    residual,
    segmentation,
    sequences,
    several,
    transformers,
    windows,
)
from pellucid.testing.zoo.entry import ZooNet

__all__ = ["ZOO"]

_SHELVES = (plain, residual, branching, gated, transformers, windows, segmentation, sequences, several)

ZOO: Mapping[str, ZooNet] = MappingProxyType({net.name: net for shelf in _SHELVES for net in shelf.NETS})
"""Every net by name."""
