"""Phantoms: synthetic scenes whose factors, label rule and responsible pixels are known exactly."""

from pellucid.images.phantoms.cells import CELL_FACTORS, cells
from pellucid.images.phantoms.decoys import Decoys
from pellucid.images.phantoms.experts import with_experts
from pellucid.images.phantoms.fields import FIELD_FACTORS, fields
from pellucid.images.phantoms.grains import GRAIN_FACTORS, grains
from pellucid.images.phantoms.phantom import Phantom
from pellucid.images.phantoms.rule import Factor, Rule
from pellucid.images.phantoms.shortcut import Shortcut
from pellucid.images.phantoms.suppressors import Suppressors
from pellucid.images.phantoms.volumes import VOLUME_FACTORS, volumes

__all__ = [
    "CELL_FACTORS", "FIELD_FACTORS", "GRAIN_FACTORS", "VOLUME_FACTORS", "Decoys", "Factor", "Phantom", "Rule", "Shortcut",
    "Suppressors", "cells", "fields", "grains", "volumes", "with_experts",
]  # fmt: skip
