"""Models and targets: loading, capabilities, the one way through a model, reference nets and their training."""

from pellucid.models import targets
from pellucid.models.model import Capabilities, Inputs, Model, Normalise
from pellucid.models.passes import Passes, frozen, repeat_rows, take_rows
from pellucid.models.targets import ReadOut, Target

__all__ = [
    "Capabilities",
    "Inputs",
    "Model",
    "Normalise",
    "Passes",
    "ReadOut",
    "Target",
    "frozen",
    "repeat_rows",
    "take_rows",
    "targets",
]
