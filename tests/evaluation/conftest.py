import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from pellucid.attribution import Explanation


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def _linear(shape, classes=3):
    """A net whose outputs are w · x + b."""
    torch.manual_seed(1)
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(shape), classes)).requires_grad_(False)


def _convolutional():
    torch.manual_seed(3)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(4, 5, 3), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(5, 3),
    )  # fmt: skip


def _weights(net, x):
    """The predicted class's weights, in the images' shape."""
    return net[1].weight[net(x).argmax(1)].reshape(x.shape)


def _exact(net, x):
    """What each pixel adds against the image's own channel mean: w · (x − mean)."""
    return _weights(net, x) * (x - x.mean(tuple(range(2, x.ndim)), keepdim=True))


def _given(values, model, x, name, **more):
    return Explanation.from_values(values, model, x, name=name, **more)


def _column(scores, metric, method, column="value"):
    return [
        row[column]
        for row in scores.table.to_pylist()
        if row["metric"].split("(")[0] == metric and row["method"] == method
    ]


@pytest.fixture
def kit():
    """Nets with known truth, and how to read a score table."""
    return SimpleNamespace(
        linear=_linear, convolutional=_convolutional, weights=_weights, exact=_exact, given=_given, column=_column
    )
