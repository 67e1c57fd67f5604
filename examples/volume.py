"""Which voxels make a three-dimensional scan look diseased? Every family of methods on volumes with planted nodules.

    python examples/volume.py [OUT.png] [--quick]

Trains a small 3-D net on phantom volumes (an organ, ill where it holds more than two nodules), explains six diseased
scans that it never saw with seven methods and prints how much of each map lies in the nodules, against the share of the volume that they fill.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np

import pellucid
from pellucid.images import phantoms
from pellucid.models import Fitted, fit, predict

METHODS = (
    "integrated_gradients(steps=16)", "deeplift", 'lrp(composite="epsilon_plus_flat")', "guided_backprop",
    "occlusion(window=(2, 4, 4), stride=(1, 2, 2))", "kernel_shap(segments=100, samples=800)", "gradcam",
)  # fmt: skip


def montage(x: np.ndarray, maps: dict[str, np.ndarray], truth: np.ndarray, path: Path) -> None:
    """Draw the same slices of the scan and of every map, the nodules outlined."""
    depth = np.flatnonzero(truth.any((1, 2)))
    slices = depth[np.linspace(0, len(depth) - 1, 5).astype(int)]
    figure, grid = plt.subplots(len(maps) + 1, len(slices), figsize=(1.7 * len(slices), 1.75 * (len(maps) + 1)))
    for column, z in enumerate(slices):
        grid[0, column].imshow(x[0, z], cmap="gray", vmin=0, vmax=1)
        grid[0, column].set_title(f"slice {z}", fontsize=8)
    for row, (name, values) in enumerate(maps.items(), start=1):
        scale = np.quantile(np.abs(values), 0.995) or 1.0
        for column, z in enumerate(slices):
            grid[row, column].imshow(values[z], cmap="RdBu_r", vmin=-scale, vmax=scale)
            grid[row, column].contour(truth[z], levels=[0.5], colors="k", linewidths=0.6)
        grid[row, 0].set_ylabel(name.split("(")[0], fontsize=8)
    for axes in grid.ravel():
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=110, bbox_inches="tight")


def surest(fitted: Fitted, phantom: phantoms.Phantom, count: int) -> list[str]:
    """Return held-out diseased scans, those that the net is surest of first."""
    held = [name for name in fitted.split.test if phantom.images.label([name])[0] == 1]
    logits = predict(fitted.model, phantom.images, held).logits
    order = (logits[:, 1] - logits[:, 0]).argsort(descending=True)[:count]
    return [held[place] for place in order.tolist()]


def main(path: Path, *, quick: bool) -> dict[str, float]:
    """Train, explain, draw; return the share of each map inside the nodules over the share of the volume there."""
    phantom = phantoms.volumes(60 if quick else 700, (12, 24, 24) if quick else (12, 28, 28))
    fitted = fit(phantom.images, epochs=2 if quick else 16, width=8, depth=3, batch_size=16, learning_rate=6e-3)
    print(f"held-out accuracy {fitted.performance.accuracy}")
    ids = surest(fitted, phantom, 2 if quick else 6)
    x, truth = phantom.images.tensor(ids), phantom.factor_mask("truth", ids)
    density, shown = {}, {}
    for method in METHODS:
        found = pellucid.explain(fitted.model, x, method, target=1, ids=ids, progress=True)
        whole = pellucid.combine(found, ["pool_channels(how='sum')", "upsample"], x=x).values[:, 0].abs()
        inside = (whole * truth).sum((1, 2, 3)) / whole.sum((1, 2, 3))
        density[method] = float((inside / truth.float().mean((1, 2, 3))).mean())
        shown[method] = pellucid.combine(found, ["pool_channels(how='sum')", "upsample"], x=x).values[0, 0].numpy()
        print(f"{density[method]:6.1f} × chance  {method}")
    montage(x[0].numpy(), shown, truth[0].numpy(), path)
    return density


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    main(Path(names[0] if names else "volume.png"), quick="--quick" in sys.argv)
