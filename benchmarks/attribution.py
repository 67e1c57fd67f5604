"""Attribution against Captum: the library's own cost on a near-free model, and whole methods on a small ResNet.

python benchmarks/attribution.py
"""

import captum.attr as peers
import torch
from harness import Contest, report, run
from torch import Tensor, nn

from pellucid import explain
from pellucid.models import residual_net


class NearFree(nn.Module):
    """A 1×1 convolution and a mean: here the library is the cost."""

    def __init__(self) -> None:
        super().__init__()
        self.mix = nn.Conv2d(3, 2, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.mix(x).mean((2, 3))


def contests() -> list[Contest]:
    """Return the pairs at equal settings: same windows, segments, samples and steps."""
    torch.manual_seed(0)
    free, x = NearFree().eval(), torch.rand(1, 3, 224, 224)
    net, batch = residual_net(classes=3).eval(), torch.rand(8, 3, 64, 64)
    rows = torch.arange(224).div(32, rounding_mode="floor")
    segments = rows[:, None] * 7 + rows[None]
    targets = [0] * len(batch)
    occlusion = peers.Occlusion(free)
    shap, lime = peers.KernelShap(free), peers.Lime(free)
    ig = peers.IntegratedGradients(net)
    return [
        Contest("occlusion 16/8, near-free, 224 px", "Captum",
                lambda: explain(free, x, "occlusion(window=16, stride=8)", 0),
                lambda: occlusion.attribute(x, (3, 16, 16), strides=(3, 8, 8), target=0, perturbations_per_eval=16), 0.25),
        Contest("KernelSHAP 49 segments × 500, near-free", "Captum",
                lambda: explain(free, x, 'kernel_shap(segments="grid(7, 7)", samples=500)', 0),
                lambda: shap.attribute(x, target=0, feature_mask=segments[None, None], n_samples=500, perturbations_per_eval=16), 0.25),
        Contest("LIME 49 segments × 500, near-free", "Captum",
                lambda: explain(free, x, 'lime(segments="grid(7, 7)", samples=500)', 0),
                lambda: lime.attribute(x, target=0, feature_mask=segments[None, None], n_samples=500, perturbations_per_eval=16), 0.25),
        Contest("integrated gradients, 32 steps, ResNet, 8 images of 64 px", "Captum",
                lambda: explain(net, batch, "integrated_gradients(steps=32)", targets),
                lambda: ig.attribute(batch, target=targets, n_steps=32, internal_batch_size=64), 1.0),
    ]  # fmt: skip


if __name__ == "__main__":
    torch.set_num_threads(1)
    report(run(contests()), f"attribution, torch {torch.__version__}, one thread")
