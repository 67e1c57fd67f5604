"""One number that makes a classifier's confidence honest."""

import torch
from scipy.optimize import minimize_scalar
from torch import Tensor
from torch.nn import functional

__all__ = ["calibrated_temperature"]

_RANGE = (0.05, 20.0)


def calibrated_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the T for which ``softmax(logits / T)`` fits these held-out labels best.

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
    Guo et al., On calibration of modern neural networks, ICML 2017.
    """
    exact, answers = logits.double(), labels.long()

    def loss(log_temperature: float) -> float:
        return float(functional.cross_entropy(exact / torch.tensor(log_temperature).double().exp(), answers))

    low, high = torch.tensor(_RANGE, dtype=torch.float64).log().tolist()
    found = minimize_scalar(loss, bounds=(low, high), method="bounded")
    return float(torch.tensor(found.x, dtype=torch.float64).exp())
