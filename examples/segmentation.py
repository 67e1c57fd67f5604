"""Why did a segmentation net outline this nucleus? Every family of methods on one region of a U-Net's output.

    python examples/segmentation.py [OUT.png] [--quick]

Trains a small U-Net to outline nuclei in phantom cells, then asks what in the image raises the mean logit of the outlined
nucleus. Prints how much of each map lies in the nucleus, in the rest of the cell and beyond it.
"""

import sys
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import torch
from torch import Tensor, nn

import pellucid
from pellucid.images import phantoms

METHODS = (
    "integrated_gradients(steps=16)", "deeplift", 'lrp(composite="epsilon_plus_flat")', "guided_backprop",
    "occlusion(window=8, stride=4)", "kernel_shap(segments=60, samples=400)", 'gradcam(at="bottom")',
)  # fmt: skip


def block(narrow: int, wide: int) -> nn.Sequential:
    """Return two convolutions with BatchNorm and in-place ReLU."""
    layers = []
    for channels in ((narrow, wide), (wide, wide)):
        layers += [nn.Conv2d(*channels, 3, padding=1, bias=False), nn.BatchNorm2d(channels[1]), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers)


class UNet(nn.Module):
    """Two scales down, two up, features of each scale handed across."""

    def __init__(self, width: int = 12) -> None:
        super().__init__()
        self.first, self.second, self.bottom = block(3, width), block(width, 2 * width), block(2 * width, 4 * width)
        self.rise, self.lift = (
            nn.ConvTranspose2d(4 * width, 2 * width, 2, 2),
            nn.ConvTranspose2d(2 * width, width, 2, 2),
        )
        self.third, self.last = block(4 * width, 2 * width), block(2 * width, width)
        self.head = nn.Conv2d(width, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(N, 2, Y, X)`` of background and nucleus."""
        fine = self.first(x)
        middle = self.second(nn.functional.max_pool2d(fine, 2))
        coarse = self.rise(self.bottom(nn.functional.max_pool2d(middle, 2)))
        middle = self.third(torch.cat([coarse, middle], 1))
        return self.head(self.last(torch.cat([self.lift(middle), fine], 1)))


def train(net: UNet, x: Tensor, masks: Tensor, steps: int) -> None:
    """Fit the net to the masks."""
    optimiser = torch.optim.AdamW(net.parameters(), 3e-3)
    generator = torch.Generator().manual_seed(0)
    for _ in range(steps):
        rows = torch.randint(len(x), (16,), generator=generator)
        loss = nn.functional.cross_entropy(net(x[rows]), masks[rows].long())
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    net.eval()


def montage(x: Tensor, maps: dict[str, np.ndarray], region: np.ndarray, path: Path) -> None:
    """Draw the image and every map, the explained region outlined."""
    figure, grid = plt.subplots(2, (len(maps) + 2) // 2, figsize=(2.1 * ((len(maps) + 2) // 2), 4.6))
    grid[0, 0].imshow(np.moveaxis(x.numpy(), 0, -1))
    grid[0, 0].set_title("cell", fontsize=8)
    for axes, (name, values) in zip(grid.ravel()[1:], maps.items(), strict=False):
        scale = np.quantile(np.abs(values), 0.995) or 1.0
        axes.imshow(values, cmap="RdBu_r", vmin=-scale, vmax=scale)
        axes.set_title(name.split("(")[0], fontsize=8)
    for axes in grid.ravel():
        axes.contour(region, levels=[0.5], colors="k", linewidths=0.7)
        axes.set_xticks([])
        axes.set_yticks([])
    figure.savefig(path, dpi=110, bbox_inches="tight")


def main(path: Path, *, quick: bool) -> dict[str, tuple[float, float, float]]:
    """Train, explain, draw; return the shares of each map in the nucleus, in the rest of the cell and beyond."""
    torch.manual_seed(0)
    phantom = phantoms.cells(40 if quick else 200, (48, 48) if quick else (64, 64))
    x, nuclei = phantom.images.tensor(), phantom.factor_mask("nucleus_size")
    net = UNet(4 if quick else 12)
    train(net, x, nuclei, 20 if quick else 250)
    shown, cell = x[-4:], phantom.factor_mask("object")[-4:]
    region = net(shown).argmax(1).bool() | nuclei[-4:]
    overlap = (net(shown).argmax(1).bool() & nuclei[-4:]).sum() / region.sum()
    print(f"overlap of outlined and true nuclei {float(overlap):.2f}")
    target = pellucid.targets.Region(1, mask=nuclei[-4:]) if quick else pellucid.targets.Region(1)
    shares, maps = {}, {}
    for method in METHODS:
        found = pellucid.explain(net, shown, method, target=target, progress=True)
        whole = pellucid.combine(found, ["pool_channels(how='sum')", "upsample"], x=shown).values[:, 0]
        maps[method] = whole[0].numpy()
        mass = whole.abs().sum((1, 2))
        parts = (nuclei[-4:], cell & ~nuclei[-4:], ~cell & ~nuclei[-4:])
        shares[method] = tuple(float(((whole.abs() * part).sum((1, 2)) / mass).mean()) for part in parts)
        print("nucleus {:.2f}, rest of the cell {:.2f}, beyond {:.2f}  ".format(*shares[method]) + method)
    montage(shown[0], maps, net(shown).argmax(1)[0].numpy(), path)
    return shares


if __name__ == "__main__":
    names = [word for word in sys.argv[1:] if not word.startswith("--")]
    main(Path(names[0] if names else "segmentation.png"), quick="--quick" in sys.argv)
