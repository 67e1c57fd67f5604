"""Evaluation against Quantus 0.6 at equal settings: a panel, ROAD and robustness alone; and what ten methods cost.

64 grey images of 64 px (Quantus's ROAD takes no RGB), the layout of ResNet-18 at a quarter of its width.
All ten methods cost about one gradient. Quantus knows one method at a time, so ten cost it ten times what one does: the
panel is to cost no more than one method there.

python benchmarks/evaluation.py [--only panel] [--write]
"""

import sys
import warnings
from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import torch
from harness import Contest, main
from nets import BasicBlock
from peers import peer
from torch import Tensor, nn

from pellucid import evaluate, explain
from pellucid.attribution import Explanation

ROWS, SIZE = 64, 64
METHODS = (
    "gradient", "saliency", "input_x_gradient", "guided_backprop", "deconvnet", 'gradcam(at="7")', 'hirescam(at="7")',
    'layercam(at="7")', 'xgradcam(at="7")', 'gradcam_plus_plus(at="7")',
)  # fmt: skip
ORDER = ("deletion(steps=16)", "monotonicity(steps=16)", "selectivity(segments=16)")
REMOVAL = 'road(order="morf")'
SUBSETS = (
    "faithfulness_correlation(samples=64)", "faithfulness_estimate(segments=64)", "sensitivity_n(samples=10)",
    "infidelity(samples=64)",
)  # fmt: skip
NOISE = (
    "max_sensitivity", "avg_sensitivity", "local_lipschitz", "relative_input_stability", "relative_output_stability",
)  # fmt: skip
PANEL = (*SUBSETS, *ORDER, REMOVAL, *NOISE, "sparseness", "complexity")


@cache
def net() -> nn.Module:
    """Return the layout of ResNet-18 at a quarter of its width, for one channel."""
    torch.manual_seed(0)
    layers: list[nn.Module] = [
        nn.Conv2d(1, 16, 7, 2, 3, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(3, 2, 1),
    ]
    before = 16
    for width, stride in ((16, 1), (32, 2), (64, 2), (128, 2)):
        layers += [nn.Sequential(BasicBlock(before, width, stride), BasicBlock(width, width, 1))]
        before = width
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(128, 4)).eval()


@cache
def images() -> Tensor:
    """Return smooth images with noise."""
    torch.manual_seed(1)
    coarse = nn.functional.interpolate(torch.rand(ROWS, 1, 8, 8), SIZE, mode="bilinear")
    return coarse + 0.1 * torch.rand(ROWS, 1, SIZE, SIZE)


@cache
def explained() -> tuple[Explanation, ...]:
    """Return what is scored, made beforehand on both sides."""
    return tuple(explain(net(), images(), method) for method in METHODS)


def _ours(metrics: tuple[str, ...], methods: int) -> Callable[[], object]:
    return lambda: evaluate(net(), images(), explained()[:methods], list(metrics))


def _again(model: nn.Module, inputs: Any, targets: Any, **_: Any) -> Any:
    """Explain anew for Quantus: the plain gradient, as both sides do for one method."""
    x = torch.as_tensor(np.asarray(inputs), dtype=torch.float32).requires_grad_()
    chosen = model(x).gather(1, torch.as_tensor(np.asarray(targets)).long()[:, None]).sum()
    return torch.autograd.grad(chosen, x)[0].numpy()


def _peers(names: tuple[str, ...]) -> Callable[[], object]:
    """Return the same metrics of Quantus, one after the other, on the first method."""
    quantus = peer("quantus")
    quiet = {"disable_warnings": True, "display_progressbar": False}
    hole, known = {"perturb_baseline": "mean", **quiet}, {
        "max_sensitivity": "MaxSensitivity", "avg_sensitivity": "AvgSensitivity", "local_lipschitz": "LocalLipschitzEstimate",
        "relative_input_stability": "RelativeInputStability", "relative_output_stability": "RelativeOutputStability",
    }  # fmt: skip
    metrics = {
        "faithfulness_correlation": lambda: quantus.FaithfulnessCorrelation(nr_runs=64, subset_size=410, **hole),
        "faithfulness_estimate": lambda: quantus.FaithfulnessEstimate(features_in_step=64, **hole),
        "sensitivity_n": lambda: quantus.SensitivityN(features_in_step=64, n_max_percentage=0.8, **hole),
        "infidelity": lambda: quantus.Infidelity(perturb_patch_sizes=[8], n_perturb_samples=1, **hole),
        "deletion": lambda: quantus.PixelFlipping(features_in_step=256, **hole),
        "monotonicity": lambda: quantus.Monotonicity(features_in_step=256, **hole),
        "selectivity": lambda: quantus.Selectivity(patch_size=16, **hole),
        "road": lambda: quantus.ROAD(percentages=[10, 30, 50, 70, 90], noise=0.01, **quiet),
        "sparseness": lambda: quantus.Sparseness(**quiet),
        "complexity": lambda: quantus.Complexity(**quiet),
    }
    for name, kind in known.items():
        metrics[name] = lambda kind=kind: getattr(quantus, kind)(nr_samples=8, **quiet)
    x, y = images().numpy(), net()(images()).argmax(1).numpy()
    given = explained()[0].tensors[0].numpy()
    made = [metrics[name.split("(")[0]]() for name in names]

    def work() -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for metric in made:
                metric(model=net(), x_batch=x, y_batch=y, a_batch=given.copy(), explain_func=_again, batch_size=ROWS)

    return work


def panel() -> list[Contest]:
    """Return ten methods under fifteen metrics against one of them in Quantus, which does not share between methods."""
    return [
        Contest("15 metrics × 10 methods, 64 images", "Quantus 0.6, 1 of the 10 methods",
                _ours(PANEL, len(METHODS)), _peers(PANEL), 1.0),
    ]  # fmt: skip


def alone() -> list[Contest]:
    """Return single metrics with one method."""
    return [
        Contest("ROAD, 5 fractions", "Quantus 0.6", _ours((REMOVAL,), 1), _peers((REMOVAL,)), 1 / 6),
        Contest("five robustness metrics, 8 copies", "Quantus 0.6", _ours(NOISE, 1), _peers(NOISE), 1 / 8),
    ]


def shared() -> list[Contest]:
    """Return ten methods against one, both ours."""
    return [
        Contest("shared metrics, 10 methods", "1 method", _ours(SUBSETS, len(METHODS)), _ours(SUBSETS, 1), 1.5),
        Contest("five robustness metrics", "one of them", _ours(NOISE, 1), _ours(NOISE[:1], 1), 1.5),
    ]


if __name__ == "__main__":
    main("evaluation", (shared, alone, panel), sys.argv[1:])
