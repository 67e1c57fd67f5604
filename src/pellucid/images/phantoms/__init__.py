"""Phantoms: synthetic scenes whose factors, label rule and responsible pixels are known exactly."""

from pellucid.images.phantoms.cells import CELL_FACTORS, cells
from pellucid.images.phantoms.grains import GRAIN_FACTORS, grains
from pellucid.images.phantoms.phantom import Phantom
from pellucid.images.phantoms.rule import Factor, Rule
from pellucid.images.phantoms.shortcut import Shortcut

__all__ = ["CELL_FACTORS", "GRAIN_FACTORS", "Factor", "Phantom", "Rule", "Shortcut", "cells", "grains"]
