"""pytorch-grad-cam: the same maps up to its own scaling; constants that it turns to nothing, and a fill that drifts."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pellucid import explain

pytestmark = [pytest.mark.peers, pytest.mark.filterwarnings("ignore")]


@pytest.fixture
def theirs(peer, monkeypatch):
    """Return one of their maps, laid over the image and scaled to 0–1 as it comes."""
    cams, aims = peer("pytorch_grad_cam"), peer("pytorch_grad_cam.utils.model_targets")
    for name in ("score_cam", "ablation_cam"):  # their bars cannot be switched off
        silent = SimpleNamespace(tqdm=lambda steps: steps)
        monkeypatch.setattr(peer(f"pytorch_grad_cam.{name}"), "tqdm", silent)

    def of(name: str, net: nn.Module, layer: nn.Module, x: Tensor, target: int) -> Tensor:
        with getattr(cams, name)(net, [layer]) as cam:
            return torch.from_numpy(cam(x, [aims.ClassifierOutputTarget(target)] * len(x)))

    return of


@pytest.fixture
def scaled(peer):
    """Do to a signed coarse map what they do before they return one: positive part, image size, 0–1, twice."""
    scale = peer("pytorch_grad_cam.utils.image").scale_cam_image

    def of(coarse: Tensor, size: tuple[int, int]) -> Tensor:
        return torch.from_numpy(scale(scale(np.maximum(coarse[:, 0].numpy(), 0), size)))

    return of


@pytest.fixture
def net(settled) -> nn.Module:
    return settled(
        nn.Sequential(
            nn.Conv2d(2, 6, 3, padding=1), nn.ReLU(), nn.Conv2d(6, 5, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(),
            nn.Linear(80, 3),
        )
    )  # fmt: skip


@pytest.mark.parametrize(
    ("name", "method"),
    [
        ("GradCAM", "gradcam"),
        ("HiResCAM", "hirescam"),
        ("XGradCAM", "xgradcam"),
        ("GradCAMPlusPlus", "gradcam_plus_plus"),
        ("LayerCAM", "layercam"),
        ("ScoreCAM", "scorecam"),
        ("AblationCAM", "ablationcam"),
    ],
)
@pytest.mark.parametrize("target", [0, 2])
def test_maps_agree_up_to_their_scaling(theirs, scaled, net, pixels, name, method, target):
    """The layer has the image's size: how a coarse map is laid over the image is a choice of each."""
    x = pixels(2, 2, 8, 8)
    found = explain(net, x, f'{method}(at="3")', target=target).values
    if name == "AblationCAM":  # theirs divides by f(x), ours by its size
        found = found * net(x)[:, target].detach().sign().view(-1, 1, 1, 1)
    torch.testing.assert_close(scaled(found, (8, 8)), theirs(name, net, net[3], x, target), rtol=1e-3, atol=1e-3)


def test_eigencam_agrees_up_to_its_scaling_and_its_luck_with_the_sign(theirs, scaled, net, pixels):
    x = pixels(3, 2, 8, 8)
    found = explain(net, x, 'eigencam(at="3", centred=True)', target=0).values
    wanted = theirs("EigenCAM", net, net[3], x, 0)
    either = torch.stack([scaled(found, (8, 8)), scaled(-found, (8, 8))])
    apart = (either - wanted).abs().flatten(2).amax(2).amin(0)
    assert float(apart.max()) < 1e-3


class Flat(nn.Module):
    """Every place of the layer speaks for the output alike."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.head = nn.Conv2d(1, 3, 1), nn.Linear(3, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(x).mean((2, 3)))


def test_they_turn_a_map_that_is_the_same_everywhere_to_nothing(theirs, settled):
    """HiResCAM of mean pooling and a linear head adds up to the logit less the head's bias: at an even image, evenly."""
    net, x = settled(Flat()), torch.ones(1, 1, 4, 4)
    logits = (net(x) - net.head.bias)[0].detach()
    target = int(logits.argmax())
    assert logits[target] > 0
    ours = explain(net, x, 'hirescam(at="body")', target=target).values
    torch.testing.assert_close(ours, (logits[target] / 16).expand(1, 1, 4, 4))
    assert not theirs("HiResCAM", net, net.body, x, target).any()


def test_their_ablation_hides_signed_channels_behind_a_number_that_drifts(peer, settled, pixels):
    """A linear head: silencing channel k changes the output by v_k · mean A_k, whatever its sign; theirs is 10⁷ away and more."""
    net, x = settled(Flat()), pixels(1, 1, 4, 4)
    activations = net.body(x).detach()
    layer = peer("pytorch_grad_cam.ablation_layer").AblationLayer()
    layer.indices = [0, 1, 2]
    layer.set_next_batch(0, activations, 3)
    shown = layer(None)
    put = torch.stack([shown[channel, channel].flatten()[0] for channel in range(3)])
    assert bool((put < -1e6).all())
    assert float(put.max() - put.min()) > 1e6
    output = net(x)[:, 0].detach()
    drops = (net.head.weight[0] * activations.mean((2, 3))[0]).detach() / output.abs()
    ours = explain(net, x, 'ablationcam(at="body")', target=0).values
    torch.testing.assert_close(ours, torch.einsum("k,nkyx->nyx", drops, activations)[:, None], rtol=1e-4, atol=1e-5)
