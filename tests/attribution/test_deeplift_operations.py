"""Every operation of real networks: differences add up to rounding, and a row alone equals the row in a batch."""

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from pellucid.attribution import explain
from pellucid.errors import GuardError


def assigned(h: Tensor) -> Tensor:
    h = h.clone()
    h[:, 1:3] = h[:, 2:4].sigmoid()
    h[:, 0] *= h[:, 1]
    h[:, 5].relu_()
    return h


def attention(h: Tensor, **settings) -> Tensor:
    q, k, v = (3 * h.flatten(2).transpose(1, 2)).unsqueeze(1).chunk(3, -1)
    return functional.scaled_dot_product_attention(q, k, v, **settings)


WEIGHT = torch.randn(4, 6, 2, 2, generator=torch.Generator().manual_seed(5))
GRID = torch.linspace(-1, 1, 32).view(1, 4, 4, 2)

CASES = {
    "layer_norm": lambda h: functional.layer_norm(h.permute(0, 2, 3, 1), (6,)) ** 2,
    "group_norm": lambda h: functional.gelu(functional.group_norm(h, 2)),
    "instance_norm": lambda h: functional.silu(functional.instance_norm(h)),
    "rms_norm": lambda h: functional.rms_norm(h, (6,)).tanh(),
    "normalize": lambda h: functional.normalize(h) * h.norm(dim=1, keepdim=True),
    "std": lambda h: h.std((2, 3)),
    "squeeze and excite": lambda h: h * torch.sigmoid(h.mean((2, 3), keepdim=True)),
    "hardswish": functional.hardswish,
    "prelu": lambda h: functional.prelu(h, torch.tensor([0.2])),
    "softplus": functional.softplus,
    "mish": functional.mish,
    "relu and max-pool": lambda h: functional.max_pool2d(functional.relu(h), 2),
    "global average": lambda h: functional.adaptive_avg_pool2d(h.exp(), 1),
    "average pool": lambda h: functional.avg_pool2d(h.sigmoid(), 3, 1, 1),
    "amax": lambda h: h.amax((2, 3)),
    "amin": lambda h: h.amin(1, keepdim=True),
    "max": lambda h: torch.max(h, 1).values,
    "max kept": lambda h: h.max(2, keepdim=True)[0],
    "min": lambda h: h.min(1).values,
    "maximum": lambda h: torch.maximum(h, h.flip(1)),
    "max of two": lambda h: torch.max(h, h[:, :1]),
    "minimum": lambda h: torch.minimum(h, h.mean((2, 3), keepdim=True)),
    "clamp": lambda h: h.clamp(-0.3, 0.2),
    "round": lambda h: (h * 5).round() * h,
    "sign": lambda h: h.sign() * h.exp(),
    "where": lambda h: torch.where(h > 0, h, 0.1 * h),
    "where of a slice": lambda h: h.where(h[:, :1] > 0, h.exp()),
    "between two": lambda h: torch.where(h >= h.flip(1), h * h, -h),
    "hand-made relu": lambda h: h * (h > 0),
    "mask as numbers": lambda h: h * (h > 0.1).float() + (h < 0).to(h.dtype).mean(1, keepdim=True),
    "masked_fill": lambda h: h.masked_fill(h < 0, 0.3),
    "in place": lambda h: (h * 1).masked_fill_(h.abs() < 0.2, 0.0),
    "and": lambda h: torch.where((h > 0) & (h < 0.5), h * h, -h),
    "not, or": lambda h: h.masked_fill(~((h > 0.5) | (h < -0.5)), 0.0),
    "logical": lambda h: h.masked_fill(torch.logical_and(h > 0, torch.ones(6, 6).triu().bool()), 1.0),
    "moved mask": lambda h: h * (h.mean((2, 3)) > 0)[:, :, None, None],
    "fixed mask": lambda h: h.tanh().masked_fill(torch.eye(6).bool(), 0.0),
    "pixel shuffle": lambda h: functional.pixel_shuffle(h[:, :4], 2).sigmoid(),
    "bilinear resize": lambda h: functional.interpolate(h, scale_factor=2, mode="bilinear").sigmoid(),
    "bicubic resize": lambda h: functional.interpolate(h, size=4, mode="bicubic", antialias=True).sigmoid(),
    "nearest resize": lambda h: functional.interpolate(h, size=4, mode="nearest-exact").sigmoid(),
    "grid sample": lambda h: functional.grid_sample(h, GRID.expand(len(h), -1, -1, -1), align_corners=False).tanh(),
    "transposed convolution": lambda h: functional.conv_transpose2d(h.relu(), WEIGHT.transpose(0, 1), stride=2).tanh(),
    "transposed 1-D": lambda h: functional.conv_transpose1d(h.relu()[..., 0], WEIGHT[..., 0].transpose(0, 1)).tanh(),
    "transposed 3-D": lambda h: functional.conv_transpose3d(h.relu()[..., None], WEIGHT[..., None].transpose(0, 1)).tanh(),
    "slice assignment": assigned,
    "concatenation": lambda h: torch.cat([h.relu(), h[:, 2:4].sigmoid() * 2], 1),
    "einsum": lambda h: torch.einsum("nchw,ndhw->ncd", h, h.tanh()),
    "dynamic filters": lambda h: torch.stack([functional.linear(row.flatten(1), row.flatten(1).tanh()) for row in h]),
    "dynamic convolution": lambda h: torch.cat([functional.conv2d(row[None], row[None].tanh()) for row in h]) + h,
    "lerp": lambda h: torch.lerp(h, h.exp(), h.sigmoid()),
    "addcdiv": lambda h: torch.addcdiv(h, h, h.exp(), value=0.5),
    "quotient": lambda h: h / (h * h + 1),
    "reflected quotient": lambda h: 2 / (h.exp() + 1),
    "denominator of both signs": lambda h: h.exp() / (h.tanh() + 0.001),
    "power": lambda h: (h.abs() + 0.1) ** 1.7,
    "root": lambda h: (h.relu() + 0.01).sqrt(),
    "everything in place": lambda h: functional.relu_(h.mul_(2)).add_(1).div_(3),
    "softmax": lambda h: (100 * h).softmax(1) * h,
    "softmin": lambda h: functional.softmin(h, 1) * h,
    "log_softmax": lambda h: functional.log_softmax(30 * h, 1),
    "logsumexp": lambda h: h.logsumexp((2, 3)),
    "gated linear unit": lambda h: functional.glu(h, 1),
    "cosine": lambda h: functional.cosine_similarity(h, h.flip(1) + 1),
    "distance": lambda h: functional.pairwise_distance(h.flatten(1), h.flatten(1).flip(1)).unsqueeze(1),
    "bilinear": lambda h: functional.bilinear(h[:, :, 0], h[:, :, 1].tanh(), WEIGHT.new_ones(3, 6, 6).tril()),
    "attention": attention,
    "causal attention": lambda h: attention(h, is_causal=True),
    "masked attention": lambda h: attention(h, attn_mask=torch.ones(36, 36).tril(3).bool()),
}  # fmt: skip


def network(nets, operation):
    def forward(x: Tensor, a: nn.Module) -> Tensor:
        found = operation(a(x)).flatten(1)
        weights = torch.linspace(-1, 1.5, found.shape[1]).to(found)
        return torch.stack([found @ weights, found.sum(1)], 1)

    return nets.lived_in(nets.Call(forward, nn.Conv2d(3, 6, 3)))


@pytest.mark.parametrize("method", ["deeplift", "deeplift_reveal_cancel"])
@pytest.mark.parametrize("case", CASES)
def test_differences_add_up_through_every_operation_and_rows_do_not_meet(nets, pixels, case, method):
    net, x = network(nets, CASES[case]), pixels(3, 3, 8, 8)
    for baseline in ("zero", "mean"):
        found = explain(net, x, f'{method}(baseline="{baseline}")', target=0)
        torch.testing.assert_close(found.output, net(x)[:, 0].detach(), rtol=1e-4, atol=1e-4)
        assert (found.gap <= 1e-5 * found.values.abs().flatten(1).sum(1)).all()
        assert (found.output - found.reference_output).abs().max() > 1e-3
        alone = explain(net, x[1:2], f'{method}(baseline="{baseline}")', target=0)
        scale = float(found.values[1].abs().max())
        torch.testing.assert_close(alone.values[0], found.values[1], rtol=1e-4, atol=1e-4 * scale)


def test_a_mask_that_a_rule_cannot_follow_is_refused_with_its_line(nets, pixels):
    for lost in (lambda h: h * (h > 0).any(1, keepdim=True), lambda h: h[:, :2] if (h > 0).all() else h[:, 2:4],
                 lambda h: h * torch.cumsum(h > 0, 1)):  # fmt: skip
        with pytest.raises(GuardError, match=r"at test_deeplift_operations.py:\d+ in .*mask.*integrated_gradients"):
            explain(network(nets, lost), pixels(2, 3, 8, 8), "deeplift", target=0)


def test_a_mask_of_what_was_detached_is_refused(nets, pixels):
    for lost in (lambda h: torch.where(h.detach() > 0, h, -h), lambda h: h.masked_fill(h.detach() > 0, 0.0)):
        with pytest.raises(GuardError, match="not the same for the image and for the baseline"):
            explain(network(nets, lost), pixels(2, 3, 8, 8), "deeplift", target=0)


def test_a_network_that_takes_another_course_for_the_baseline_is_refused(nets, pixels):
    def branches(h: Tensor) -> Tensor:
        return h.tanh() if h.detach().abs().sum() > 60 else h.sigmoid().sin()

    with pytest.raises(GuardError, match="another course"):
        explain(network(nets, branches), 9 * pixels(2, 3, 8, 8), "deeplift(baseline=0.001)", target=0)


@pytest.mark.parametrize(("lost", "told"), [
    (lambda h: torch.einsum("nchw,nchw,nchw->nc", h, h.tanh(), h.exp()), "einsum of 3 activations"),
    (lambda h: h * h.max(), "max .*mixes the rows"),
    (lambda h: h / h.std(), "var over all axes"),
    (lambda h: torch.div(h, h.exp(), rounding_mode="floor"), "division that rounds"),
    (lambda h: h.topk(2, 1)[0] ** 2, r"TopkBackward0 \(topk at"),
    (lambda h: h.sort(1)[0], r"SortBackward0 \(sort at"),
    (lambda h: h + (h == h.flip(1)), "'eq'"),
])  # fmt: skip
def test_each_refusal_names_the_operation(nets, pixels, lost, told):
    with pytest.raises(GuardError, match=told):
        explain(network(nets, lost), pixels(2, 3, 8, 8), "deeplift", target=0)
