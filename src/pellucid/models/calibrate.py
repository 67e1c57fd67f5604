"""One number that makes a classifier's confidence honest."""

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

__all__ = ["calibrated_temperature"]

_RANGE = (0.05, 20.0)


def calibrated_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T for which ``softmax(logits / T)`` fits these held-out labels best.

    A label counts as what its number of images can vouch for: of a class with n images, (n + 1) / (n + K) for the label and
    the rest shared among the others. Without it a model that is right on all of them would be called infinitely sure.

    Parameters
    ----------
    logits
        ``(N, K)`` of images that were not trained on.
    labels
        ``(N,)`` class numbers.

    Returns
    -------
    float
        Between 0.05 and 20; above 1 the model was too confident.

    References
    ----------
    Guo et al., On calibration of modern neural networks, ICML 2017; the targets are those of Platt, Probabilistic outputs for
    support vector machines, 1999, for K classes.
    """
    exact, answers = logits.double(), _targets(labels.long(), logits.shape[1])

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(exact / torch.tensor(log_temperature).double().exp(), answers))

    low, high = torch.tensor(_RANGE, dtype=torch.float64).log().tolist()
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(torch.tensor(found.x, dtype=torch.float64).exp())


def _targets(labels: Tensor, classes: int) -> Tensor:
    """Return ``(N, K)``: how probable each class is by the rule of succession, given what an image is labelled."""
    trials = labels.bincount(minlength=classes).double()[labels, None] + classes
    return torch.where(functional.one_hot(labels, classes).bool(), (trials - classes + 1) / trials, 1 / trials)
