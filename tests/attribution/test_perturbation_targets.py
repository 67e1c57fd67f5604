"""All targets from one run, and what a run will cost before it is made."""

import re

import pytest
import torch
from torch import Tensor, nn

import pellucid
from pellucid.attribution import METHODS
from pellucid.attribution.estimate import duration
from pellucid.attribution.perturbation import shapley_sampling
from pellucid.errors import BadTarget, CannotExplain
from pellucid.models import Model

ENGINE = [
    "ablation(segments=6)",
    "hsic(grid=3, samples=40)",
    'kernel_shap(segments="grid(3, 3)", samples=60)',
    "lime(segments=5, samples=40)",
    "lime(segments=5, samples=40, spread=0)",
    "occlusion(window=4, stride=3)",
    'owen(segments="grid(3, 3)", samples=8)',
    "rise(samples=30)",
    'shapley_sampling(segments="grid(3, 3)", samples=8)',
    "sobol(grid=3, samples=8)",
]


def net() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(2, 5, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(2), nn.Flatten(), nn.Linear(20, 3)).eval()


def images(rows: int = 2) -> Tensor:
    return torch.randn(rows, 2, 14, 13, generator=torch.Generator().manual_seed(1))


def test_every_method_that_hides_parts_shares_its_forwards() -> None:
    sharing = {name for name, recipe in METHODS.items() if recipe.shares_forwards}
    assert sharing == {METHODS.parse(text).name for text in ENGINE}


@pytest.mark.parametrize("method", ENGINE)
def test_one_run_equals_one_run_a_class_and_counts_its_forwards_once(method: str) -> None:
    model, x, ids = net(), images(), ["a", "b"]
    every = pellucid.explain_targets(model, x, method, ids=ids)
    singles = [pellucid.explain(model, x, method, target, ids=ids) for target in range(3)]
    assert [e.forwards for e in every] == [singles[0].forwards, 0, 0]
    for own, single in zip(every, singles, strict=True):
        assert own.target == single.target
        assert own.warnings == single.warnings
        assert own.details.keys() == single.details.keys()
        torch.testing.assert_close(own.values, single.values, atol=1e-6, rtol=1e-5)
        for one, two in (
            (own.error, single.error),
            (own.gap, single.gap),
            (own.reference_output, single.reference_output),
        ):
            assert (one is None) == (two is None)
            if one is not None:
                torch.testing.assert_close(one, two, atol=1e-6, rtol=1e-5)
        for name, detail in single.details.items():
            torch.testing.assert_close(own.details[name], detail, atol=1e-5, rtol=1e-4, equal_nan=True)


def test_other_methods_go_once_through_each_target() -> None:
    model, x = net(), images()
    every = pellucid.explain_targets(model, x, "gradient", [2, pellucid.targets.Contrast(0, 1)])
    for own, target in zip(every, (2, pellucid.targets.Contrast(0, 1)), strict=True):
        torch.testing.assert_close(own.values, pellucid.explain(model, x, "gradient", target).values)
    assert sum(e.forwards for e in every) == 2 + 2 + 2
    assert [e.backwards for e in every] == [2, 2]


def test_targets_of_every_kind_share_a_run_where_they_read_the_same_layer() -> None:
    model, x = Model(net(), embedding="0"), images()
    asked = [0, pellucid.targets.LogOdds(1), pellucid.targets.Contrast(0, 2), (1, 2)]
    every = pellucid.explain_targets(model, x, "occlusion(window=7)", asked)
    assert [e.forwards > 0 for e in every] == [True, False, False, False]
    for own, target in zip(every, asked, strict=True):
        torch.testing.assert_close(own.values, pellucid.explain(model, x, "occlusion(window=7)", target).values)
    apart = pellucid.explain_targets(model, x, "occlusion(window=7)", [0, pellucid.targets.Latent(1)])
    assert all(e.forwards for e in apart)
    torch.testing.assert_close(
        apart[1].values, pellucid.explain(model, x, "occlusion(window=7)", pellucid.targets.Latent(1)).values
    )


def test_objects_of_a_segmentation_share_a_run() -> None:
    dense = nn.Conv2d(2, 3, 3, padding=1)
    with pytest.raises(BadTarget, match="targets=None has no meaning for a dense output"):
        pellucid.explain_targets(dense, images())
    boxes = [pellucid.targets.Region(1, box=((0, 0), (4, 4))), pellucid.targets.Region(1, box=((6, 6), (12, 12)))]
    every = pellucid.explain_targets(dense, images(), "occlusion(window=3)", boxes)
    for own, target in zip(every, boxes, strict=True):
        torch.testing.assert_close(own.values, pellucid.explain(dense, images(), "occlusion(window=3)", target).values)
    assert every[1].forwards == 0


def test_a_stopping_rule_goes_on_until_the_last_target_has_enough() -> None:
    def game(x: Tensor) -> Tensor:
        z = x.mean((1, 2))
        return torch.stack([z.sum(1), z.sum(1) + 3 * z[:, 0] * z[:, 1] - 2 * z[:, 2] * z[:, 5] + z.amax(1)], 1)

    x, columns = torch.rand(1, 1, 2, 16, generator=torch.Generator().manual_seed(0)), torch.arange(16).expand(2, 16)
    method = shapley_sampling(segments=columns, samples=2000, tolerance=0.002)
    easy, hard = pellucid.explain_targets(game, x, method)
    alone = pellucid.explain(game, x, method, 0)
    assert alone.details["orders"] < hard.details["orders"]
    assert torch.equal(easy.details["orders"], hard.details["orders"])


@pytest.mark.parametrize("method", [*ENGINE, "gradient", "integrated_gradients(steps=5)", "gradcam"])
def test_an_estimate_states_the_passes_that_follow(method: str) -> None:
    model, x = net(), images(3)
    told, e = pellucid.estimate(model, x, method), pellucid.explain(model, x, method)
    assert told.backwards == e.backwards
    assert e.forwards <= told.forwards <= 2 * e.forwards + 10
    assert told.memory > 2 * x.nbytes
    assert told.seconds > 0
    assert re.fullmatch(
        r"[\d,]+ forwards( and [\d,]+ backwards)?, (less than 1 s|about [\d,]+ (s|min|h|days)), [\d,]+ MB", str(told)
    )


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0.2, "less than 1 s"),
        (1.0, "about 1 s"),
        (80, "about 80 s"),
        (240, "about 4 min"),
        (7000, "about 2 h"),
        (1e6, "about 12 days"),
    ],
)
def test_times_are_told_as_people_say_them(seconds: float, said: str) -> None:
    assert duration(seconds) == said


def test_the_estimate_stands_before_the_bar(capsys: pytest.CaptureFixture[str]) -> None:
    e = pellucid.explain(net(), images(), "occlusion(window=7)", progress=True)
    assert "occlusion(window=7): " in capsys.readouterr().out
    assert e.forwards == pellucid.explain(net(), images(), "occlusion(window=7)").forwards


def test_absurd_requests_are_refused_with_passes_time_and_what_would_do() -> None:
    x = torch.rand(1, 2, 224, 224)
    with pytest.raises(
        CannotExplain, match=r"50,176 segments from about 100,852 forwards an image, about .* for 1 image.*segments=50"
    ):
        pellucid.explain(net(), x, 'kernel_shap(segments="pixels")')
    with pytest.raises(CannotExplain, match=r"about 5,017,\d+ forwards an image, .* at most 100,000 are allowed"):
        pellucid.explain(net(), x, 'shapley_sampling(segments="pixels")')
