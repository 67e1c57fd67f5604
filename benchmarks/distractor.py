"""A linear model whose truth is known whole: it filters a strong distractor out of the image to read a signal.

    python benchmarks/distractor.py [SEEDS]

Its weights must cancel the distractor, so the gradient shows that and not the signal (Kindermans et al. 2018); patterns are
learnt from the images. Prints how each map correlates with the planted signal, with an interval over seeds.
"""

import sys

import torch
from torch import Tensor, nn

from pellucid import explain, fit_patterns
from pellucid.attribution import METHODS
from pellucid.intervals import Interval, mean_interval

SIDE, ROWS = 6, 2000


def planted(seed: int) -> tuple[nn.Module, Tensor, Tensor]:
    """Return the best linear reader of a signal, the images ``(N, 1, Y, X)``, and the signal ``(Y · X,)``."""
    random = torch.Generator().manual_seed(seed)
    signal, other = torch.randn(2, SIDE**2, generator=random)
    label, strength = torch.randn(2, ROWS, generator=random)
    noise = 0.1 * torch.randn(ROWS, SIDE**2, generator=random)
    x = label[:, None] * signal + 3 * strength[:, None] * (other + 1.5 * signal) + noise
    net = nn.Sequential(nn.Flatten(), nn.Linear(SIDE**2, 1))
    with torch.no_grad():
        net[1].weight.copy_(torch.linalg.lstsq(x, label[:, None]).solution.T)
        net[1].bias.zero_()
    return net, x.view(ROWS, 1, SIDE, SIDE), signal


def likeness(seed: int) -> dict[str, float]:
    """Return each map's correlation with what it should show: the signal, or the signal's share of the output."""
    net, x, signal = planted(seed)
    patterns = fit_patterns(net, x)
    share = signal * net[1].weight[0].detach() * net(x[:1]).detach()[0]
    told = {
        "gradient": (explain(net, x[:1], "gradient"), signal),
        "pattern_net": (explain(net, x[:1], METHODS["pattern_net"](patterns=patterns)), signal),
        "input_x_gradient": (explain(net, x[:1], "input_x_gradient"), share),
        "pattern_attribution": (explain(net, x[:1], METHODS["pattern_attribution"](patterns=patterns)), share),
    }
    return {
        name: float(torch.corrcoef(torch.stack([found.values.flatten(), truth]))[0, 1])
        for name, (found, truth) in told.items()
    }


def measured(seeds: int) -> dict[str, Interval]:
    """Return the mean correlation by method with its interval over seeds."""
    found = [likeness(seed) for seed in range(seeds)]
    return {name: mean_interval([one[name] for one in found], bounds=(-1.0, 1.0)) for name in found[0]}


if __name__ == "__main__":
    for name, interval in measured(int(sys.argv[1]) if len(sys.argv) > 1 else 20).items():
        print(f"{name}: {interval}")
