"""The zoo: small nets with the layouts and habits of the field, to try a method on what people bring."""

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
from pellucid.testing.zoo.panel import SMALL, small
from pellucid.testing.zoo.verify import Verdict, verify

__all__ = ["SMALL", "ZOO", "Verdict", "ZooNet", "small", "verify"]

_SHELVES = (plain, residual, branching, gated, transformers, windows, segmentation, sequences, several)

ZOO: Mapping[str, ZooNet] = MappingProxyType({net.name: net for shelf in _SHELVES for net in shelf.NETS})
"""Every net by name."""
