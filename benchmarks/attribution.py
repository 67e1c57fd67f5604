"""Attribution against Captum, zennit and pytorch-grad-cam at equal work, and against the bare passes through the network.

    python benchmarks/attribution.py [--only WORD ...] [--write]

Each contest runs ours and theirs in alternation in one process and compares the least CPU time of each. Captum's
perturbation methods get the `perturbations_per_eval` that is fastest for them; its path methods and DeepLIFT are asked
for the convergence delta, which here comes with every map, and batch as they do by default. ``--write`` puts the table into
docs/benchmarks.md.
"""

import sys
from types import SimpleNamespace

import torch
from harness import Contest, main
from nets import BasicBlock, NearFree, resnet18, vgg11
from peers import peer
from torch import Tensor, nn

from pellucid import explain
from pellucid.attribution.cam_eigen import first_component
from pellucid.models import residual_net

captum = peer("captum.attr")


def _grid(size: int, cells: int) -> Tensor:
    """Return a square grid as Captum's feature mask."""
    along = torch.arange(size) * cells // size
    return (along[:, None] * cells + along)[None, None]


def near_free() -> list[Contest]:
    """Perturbation where the network costs next to nothing: the library's own cost."""
    torch.manual_seed(0)
    net, x = NearFree().eval(), torch.rand(1, 3, 224, 224)
    return _perturbation(net, x, 7, 8, "near-free net, 224 px", 1, 0.25)


def small_net() -> list[Contest]:
    """Perturbation on a small residual net, where bare forwards are the floor."""
    torch.manual_seed(0)
    net, x = residual_net(classes=3).eval(), torch.rand(1, 3, 64, 64)
    return _perturbation(net, x, 8, 3, "small ResNet, 64 px", 16, 0.8)


def _perturbation(
    net: nn.Module, x: Tensor, cells: int, stride: int, where: str, each: int, goal: float
) -> list[Contest]:
    segments, size = f'segments="grid({cells}, {cells})"', f"{cells * cells} × 500"
    occlusion, shap, lime = captum.Occlusion(net), captum.KernelShap(net), captum.Lime(net)
    settings = {"target": 0, "perturbations_per_eval": each}
    sampled = {"feature_mask": _grid(x.shape[-1], cells), "n_samples": 500, **settings}
    return [
        Contest(f"occlusion 16/{stride}, {where}", "Captum",
                lambda: explain(net, x, f"occlusion(window=16, stride={stride})", 0),
                lambda: occlusion.attribute(x, (3, 16, 16), strides=(3, stride, stride), **settings), goal),
        Contest(f"KernelSHAP {size}, {where}", "Captum",
                lambda: explain(net, x, f"kernel_shap({segments}, samples=500)", 0),
                lambda: shap.attribute(x, **sampled), goal),
        Contest(f"LIME {size}, {where}", "Captum",
                lambda: explain(net, x, f"lime({segments}, samples=500)", 0),
                lambda: lime.attribute(x, **sampled), goal),
    ]  # fmt: skip


def backward() -> list[Contest]:
    """Gradients, paths and backward rules on a ResNet-18 at 224 px."""
    net, single, x = resnet18(), resnet18(shared=False), torch.rand(1, 3, 224, 224)
    ig, deeplift = captum.IntegratedGradients(net), captum.DeepLift(single)
    smooth = captum.NoiseTunnel(captum.Saliency(net))
    blank = torch.zeros_like(x)
    return [
        Contest("integrated gradients, 32 steps, ResNet-18, 224 px", "Captum",
                lambda: explain(net, x, "integrated_gradients(steps=32)", 0),
                lambda: ig.attribute(x, target=0, n_steps=32, return_convergence_delta=True), 1.0),
        Contest("SmoothGrad, 32 samples, ResNet-18, 224 px", "Captum",
                lambda: explain(net, x, "smoothgrad(samples=32)", 0),
                lambda: smooth.attribute(x, nt_samples=32, stdevs=0.1, target=0, abs=False), 1.0),
        Contest("DeepLIFT, ResNet-18 with one ReLU a call, 224 px", "Captum",
                lambda: explain(single, x, "deeplift", 0),
                lambda: deeplift.attribute(x, blank, target=0, return_convergence_delta=True), 1.0),
        *_relevance(net, x),
    ]  # fmt: skip


def _relevance(net: nn.Module, x: Tensor) -> list[Contest]:
    zennit = peer("zennit.torchvision")
    zennit.ResNetBasicBlock = BasicBlock  # its canoniser looks for torchvision's, of which ours is the twin
    merge = peer("zennit.canonizers").SequentialMergeBatchNorm
    plus, gamma = peer("zennit.composites").EpsilonPlusFlat, peer("zennit.composites").EpsilonGammaBox
    attributor, vgg = peer("zennit.attribution").Gradient, vgg11()
    unit = torch.eye(10)[[0]]

    def theirs(module: nn.Module, composite: object) -> None:
        with attributor(model=module, composite=composite) as attribute:
            attribute(x, unit)

    ends = {"low": torch.zeros_like(x), "high": torch.ones_like(x)}
    ours = 'lrp(composite="epsilon_gamma_box", low=0.0, high=1.0)'
    return [
        Contest("LRP ε–z⁺–flat, VGG-11, 224 px", "zennit",
                lambda: explain(vgg, x, 'lrp(composite="epsilon_plus_flat")', 0),
                lambda: theirs(vgg, plus(canonizers=[merge()])), 0.7),
        Contest("LRP ε–γ–box, VGG-11, 224 px", "zennit",
                lambda: explain(vgg, x, ours, 0), lambda: theirs(vgg, gamma(**ends, canonizers=[merge()])), 0.7),
        Contest("LRP ε–z⁺–flat, ResNet-18, 224 px", "zennit",
                lambda: explain(net, x, 'lrp(composite="epsilon_plus_flat")', 0),
                lambda: theirs(net, plus(canonizers=[zennit.ResNetCanonizer()])), 0.7),
    ]  # fmt: skip


def cams() -> list[Contest]:
    """Class activation maps: the decomposition alone, and whole methods."""
    grad_cam = peer("pytorch_grad_cam")
    project = peer("pytorch_grad_cam.utils.svd_on_activations").get_2d_projection
    aim = [peer("pytorch_grad_cam.utils.model_targets").ClassifierOutputTarget(0)]
    peer("pytorch_grad_cam.score_cam").tqdm = SimpleNamespace(
        tqdm=lambda steps: steps
    )  # its bar cannot be switched off
    net, small, x = resnet18(), residual_net(classes=3).eval(), torch.rand(1, 3, 224, 224)
    with torch.no_grad():
        maps = [vgg11()[:depth](x) for depth in (28, 21)]
    eigen = grad_cam.EigenCAM(net, [net.layer4])
    score = grad_cam.ScoreCAM(small, [small.stages[3]])
    patches = nn.Sequential(
        nn.Conv2d(3, 64, 16, 16), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 2)
    ).eval()
    cheap = grad_cam.ScoreCAM(patches, [patches[1]])
    return [
        *(Contest(f"EigenCAM's component of 512 × {m.shape[2]} × {m.shape[3]}", "pytorch-grad-cam",
                  lambda m=m: first_component(m, centred=True), lambda m=m: project(m.numpy()), 0.1) for m in maps),
        Contest("EigenCAM, ResNet-18, 224 px, whole", "pytorch-grad-cam",
                lambda: explain(net, x, 'eigencam(at="layer4", centred=True)', 0), lambda: eigen(x, aim)),
        Contest("Score-CAM, 64 channels, one layer of patches, 224 px", "pytorch-grad-cam",
                lambda: explain(patches, x, 'scorecam(at="1")', 0), lambda: cheap(x, aim), 0.7),
        Contest("Score-CAM, 128 channels, small ResNet, 224 px", "pytorch-grad-cam",
                lambda: explain(small, x, 'scorecam(at="stages.3")', 0), lambda: score(x, aim), 0.7),
    ]  # fmt: skip


def overhead() -> list[Contest]:
    """Ours against the same number of bare passes, in the same batches, on a ResNet-18 at 224 px."""
    net, x = resnet18(), torch.rand(1, 3, 224, 224)

    @torch.inference_mode()
    def forwards(rows: int, batch: int = 13) -> None:
        for size in (1, *[batch] * (rows // batch), rows % batch):
            if size:
                net(x.expand(size, -1, -1, -1).contiguous())

    def gradients(rows: int, batch: int = 13, alone: int = 2) -> None:
        forwards(alone - 1)
        for size in (*[batch] * (rows // batch), rows % batch):
            if size:
                leaf = x.repeat(size, 1, 1, 1).requires_grad_()
                torch.autograd.grad(net(leaf)[:, 0].sum(), leaf)

    net.requires_grad_(requires_grad=False)
    return [
        Contest("occlusion 56/28, 49 windows, ResNet-18, 224 px", "bare forwards",
                lambda: explain(net, x, "occlusion(window=56, stride=28)", 0), lambda: forwards(49), 1.05),
        Contest("KernelSHAP 49 × 98, ResNet-18, 224 px", "bare forwards",
                lambda: explain(net, x, 'kernel_shap(segments="grid(7, 7)", samples=98)', 0), lambda: forwards(100), 1.05),
        Contest("integrated gradients, 26 steps, ResNet-18, 224 px", "bare passes",
                lambda: explain(net, x, "integrated_gradients(steps=26)", 0), lambda: gradients(26), 1.05),
        Contest("SmoothGrad, 26 samples, ResNet-18, 224 px", "bare passes",
                lambda: explain(net, x, "smoothgrad(samples=26)", 0), lambda: gradients(26, alone=1), 1.05),
    ]  # fmt: skip


if __name__ == "__main__":
    main("attribution", (near_free, small_net, backward, cams, overhead), sys.argv[1:])
