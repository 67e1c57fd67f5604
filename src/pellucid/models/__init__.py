"""Models and targets: loading, capabilities, the one way through a model, reference nets and their training."""

from pellucid.models import targets
from pellucid.models.augment import Augment
from pellucid.models.fit import Fitted, fit
from pellucid.models.frozen import frozen
from pellucid.models.loading import load_model, weights_hash
from pellucid.models.model import Capabilities, Inputs, Known, Model, Normalise, Source
from pellucid.models.networks import residual_net
from pellucid.models.passes import Passes
from pellucid.models.performance import Performance, performance
from pellucid.models.pixels import Failure
from pellucid.models.predict import Predictions, predict
from pellucid.models.resampling import Estimate
from pellucid.models.rows import repeat_rows, take_rows
from pellucid.models.split import Split, split_images
from pellucid.models.tapping import Forward, Rules
from pellucid.models.targets import ReadOut, Target
from pellucid.models.weights import save_model

__all__ = [
    "Augment",
    "Capabilities",
    "Estimate",
    "Failure",
    "Fitted",
    "Forward",
    "Inputs",
    "Known",
    "Model",
    "Normalise",
    "Passes",
    "Performance",
    "Predictions",
    "ReadOut",
    "Rules",
    "Source",
    "Split",
    "Target",
    "fit",
    "frozen",
    "load_model",
    "performance",
    "predict",
    "repeat_rows",
    "residual_net",
    "save_model",
    "split_images",
    "take_rows",
    "targets",
    "weights_hash",
]
