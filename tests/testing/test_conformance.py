import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch
from torch import nn

import pellucid
from pellucid.attribution import METHODS, Attribution, Method
from pellucid.errors import CannotExplain, PellucidError, ShapeError
from pellucid.evaluation import METRICS, Metric, Outcome
from pellucid.testing import (
    check_method,
    check_metric,
    interrupted,
    small_images,
    small_masks,
    small_net,
    small_vit,
    untouched,
)

CHEAP = {
    "ablation": ["ablation(segments=6)"],
    "hsic": ["hsic(grid=2, samples=24)"],
    "blur_ig": ["blur_ig(steps=64)"],
    "deep_shap": ["deep_shap", 'deep_shap(background=("zero", "mean", "noise"))'],
    "deep_taylor": ["deep_taylor(low=0.0, high=1.0)"],
    "expected_gradients": ['expected_gradients(samples=6, background=("zero", "noise"))'],
    "expressive_gradients": ["expressive_gradients(steps=16)"],
    "extremal_perturbation": ["extremal_perturbation(areas=(0.2,), steps=4)"],
    "guided_ig": ["guided_ig(steps=64)"],
    "integrated_gradients": ["integrated_gradients(steps=16)", 'integrated_gradients(steps=16, baseline="noise")'],
    "kernel_shap": ["kernel_shap(segments=4, samples=40)"],
    "lime": ["lime(segments=4, samples=12)"],
    "lrp": [
        "lrp",
        'lrp(composite="epsilon_plus_flat")',
        'lrp(composite="epsilon_alpha2_beta1_flat")',
        'lrp(composite="epsilon_gamma_box", low=0.0, high=1.0)',
    ],
    "occlusion": ["occlusion(window=5, stride=3)"],
    "owen": ["owen(segments=8, groups=2, samples=4)"],
    "rise": ["rise(samples=12)"],
    "shapley_sampling": ["shapley_sampling(segments=8, samples=4)"],
    "smoothgrad": ["smoothgrad(samples=3)", 'smoothgrad(samples=2, method="guided_backprop")'],
    "sobol": ["sobol(grid=2, samples=4)"],
    "vargrad": ["vargrad(samples=3)"],
}
"""Settings that keep sampling cheap, or that a method cannot do without."""


FEW = {
    "augmentation_robustness": 'augmentation_robustness(transforms=("brightness", "translation"), steps=1)',
    "avg_sensitivity": "avg_sensitivity(samples=2)",
    "deletion": "deletion(steps=4)",
    "faithfulness_correlation": "faithfulness_correlation(samples=12)",
    "faithfulness_estimate": "faithfulness_estimate(segments=8)",
    "impact_coverage": 'impact_coverage(fill="minimum", cut=0.9999)',
    "infidelity": "infidelity(samples=12)",
    "insertion": "insertion(steps=4)",
    "irof": "irof(segments=6)",
    "local_lipschitz": "local_lipschitz(samples=2)",
    "max_sensitivity": "max_sensitivity(samples=2)",
    "monotonicity": "monotonicity(steps=6)",
    "parameter_randomisation": "parameter_randomisation(stages=1)",
    "preserving_sensitivity": "preserving_sensitivity(samples=2)",
    "relative_input_stability": "relative_input_stability(samples=2)",
    "relative_output_stability": "relative_output_stability(samples=2)",
    "road": "road(shares=(0.2, 0.6))",
    "selectivity": "selectivity(segments=6)",
    "sensitivity_n": "sensitivity_n(samples=8)",
}
"""The same for metrics."""


FITTED = {"pattern_net", "pattern_attribution"}
"""Methods that are fitted on data first: tests/attribution/test_patterns.py proves them in the same way."""


def panel():
    return [text for name in sorted(set(METHODS) - FITTED) for text in CHEAP.get(name, [name])]


@pytest.mark.parametrize("method", panel())
def test_every_method_holds_its_promises_on_images(method):
    assert check_method(method).method == METHODS.parse(method)


@pytest.mark.parametrize("method", panel())
@pytest.mark.parametrize(("dims", "size", "channels"), [(1, 32, 4), (3, 8, 1)])
def test_every_method_holds_its_promises_on_sequences_and_volumes(method, dims, size, channels):
    net = small_net(dims, channels=channels)
    if "attention" in METHODS.parse(method).needs:
        net = small_vit(dims, size=size, channels=channels)
    found = check_method(method, net=net, x=small_images(dims, rows=2, channels=channels, size=size))
    assert found.tensors[0].ndim == 2 + dims


@pytest.mark.parametrize("metric", sorted(METRICS))
def test_every_metric_holds_its_promises_on_images(metric):
    scores = check_metric(FEW.get(metric, metric))
    assert len(scores) == 9


@pytest.mark.parametrize("metric", sorted(METRICS))
@pytest.mark.parametrize(("dims", "size"), [(1, 32), (3, 8)])
def test_every_metric_holds_its_promises_on_sequences_and_volumes(metric, dims, size):
    check_metric(
        FEW.get(metric, metric),
        net=small_net(dims),
        x=small_images(dims, rows=2, size=size),
        masks=small_masks(dims, rows=2, size=size),
    )


def test_definitions_are_the_same_in_another_process():
    program = (
        "from pellucid.attribution import METHODS; from pellucid.evaluation import METRICS\n"
        "for registry in (METHODS, METRICS):\n"
        "    for name in sorted(registry):\n"
        "        print(name, registry[name]().definition)\n"
    )
    inherited = {"PYTHONHASHSEED": "7", "PYTHONPATH": str(Path(pellucid.__file__).parents[1])}
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, env=inherited)
    told = dict(line.split() for line in done.stdout.splitlines())
    assert told == {name: kind().definition for registry in (METHODS, METRICS) for name, kind in registry.items()}
    assert len(set(told.values())) == len(told)


ABOUT = METHODS["gradient"].taxonomy


@dataclass(frozen=True, kw_only=True, repr=False)
class broken_method(Method):
    """A method with a fault."""

    fault: str

    taxonomy: ClassVar = ABOUT

    def attribute(self, call):
        """Explain wrongly."""
        x, network = call.inputs[0], call.passes.model.network
        if self.fault == "reads its neighbours":
            return Attribution((x - x.mean(0),))
        if self.fault == "reads its place":
            return Attribution((x * torch.arange(1, len(x) + 1).view(-1, 1, 1, 1),))
        if self.fault == "draws from the global stream":
            return Attribution((torch.rand_like(x),))
        if self.fault == "leaves a hook":
            network.register_forward_hook(lambda *_: None)
        if self.fault == "adds a buffer":
            network.stem[0].register_buffer("seen", torch.ones(1))
        if self.fault == "writes a gradient":
            next(network.parameters()).grad.add_(1)
        if self.fault == "moves a weight":
            next(network.parameters()).data.add_(1e-6)
        if self.fault == "swallows":
            try:
                call.passes.outputs(call.inputs)
            except BaseException as stop:  # noqa: BLE001  # the very fault that is looked for
                return Attribution((x * len(str(stop)),))
        if self.fault == "misses the sum":
            return Attribution((x,), reference_output=call.output * 0)
        return Attribution((x - 0.5,))


@pytest.fixture
def registered(monkeypatch):
    def register(registry, kind, **changes):
        made = type(kind.__name__, (kind,), {**changes, "__doc__": kind.__doc__, "__module__": kind.__module__})
        monkeypatch.setitem(registry._recipes, kind.__name__, made)
        return made

    return register


@pytest.mark.parametrize(
    ("fault", "changes", "said"),
    [
        ("reads its neighbours", {}, "row 1 alone and row 1 in the batch differ"),
        ("reads its place", {}, "row 1 alone and row 1 in the batch differ"),
        ("draws from the global stream", {}, "two runs differ"),
        ("leaves a hook", {}, "hooks of the net changed"),
        ("adds a buffer", {}, "parts changed"),
        ("writes a gradient", {}, r"\.grad changed"),
        ("moves a weight", {}, r"stem\.0\.0\.weight changed"),
        ("swallows", {}, "an interruption was swallowed"),
        ("misses the sum", {"taxonomy": replace(ABOUT, complete="tolerance")}, "completeness gap"),
        ("", {"taxonomy": replace(ABOUT, sign="unsigned")}, "unsigned, and has negative ones"),
        ("", {"taxonomy": replace(ABOUT, reference="")}, "does not state its reference"),
    ],
)
def test_a_method_with_a_fault_is_caught(registered, fault, changes, said):
    kind = registered(METHODS, broken_method, **changes)
    with pytest.raises(AssertionError, match=said):
        check_method(kind(fault=fault))


def test_a_method_without_a_fault_is_let_through(registered):
    check_method(registered(METHODS, broken_method)(fault=""))


def test_a_method_that_refuses_says_so_and_fails_no_promise():
    with pytest.raises(CannotExplain, match="give more samples or fewer segments"):
        check_method("kernel_shap(segments=50, samples=8)")


STANDS_FOR = METRICS["sparseness"].profile


@dataclass(frozen=True, kw_only=True, repr=False)
class broken_metric(Metric):
    """A metric with a fault."""

    fault: str

    profile: ClassVar = STANDS_FOR

    def score(self, bench):
        """Score wrongly."""
        flat = [placed.values.double().abs() for placed in bench.maps]
        each = [values.amax(1) / (1 + values.amax(1)) for values in flat]
        if self.fault == "reads its neighbours":
            each = [value / value.sum() for value in each]
        if self.fault == "reads its company":
            each = [value / len(each) for value in each]
        if self.fault == "leaves its range":
            each = [value + 1 for value in each]
        if self.fault == "changes its mind":
            each = [value * torch.rand(()) for value in each]
        if self.fault == "never scores":
            return [Outcome.missing(len(bench), "not today") for _ in each]
        if self.fault == "leaves a hook":
            bench.passes.model.network.register_forward_hook(lambda *_: None)
        return [Outcome.of(value, "never") for value in each]


@pytest.mark.parametrize(
    ("fault", "changes", "said"),
    [
        ("reads its neighbours", {}, "image 1 alone and among others have the values"),
        ("reads its company", {}, "a method alone and beside others have the values"),
        ("leaves its range", {}, "lies outside 0 to 1"),
        ("changes its mind", {}, "two runs have the values"),
        ("never scores", {}, "scores no map at all"),
        ("leaves a hook", {}, "hooks of the net changed"),
        ("", {"profile": replace(STANDS_FOR, failure="")}, "does not state its failure"),
        ("", {"profile": replace(STANDS_FOR, family="beauty")}, "there is no family 'beauty'"),
        ("", {"profile": replace(STANDS_FOR, direction="up")}, "'up' is no direction"),
        ("", {"profile": replace(STANDS_FOR, range=(1.0, 0.0))}, "is empty"),
        ("", {"profile": replace(STANDS_FOR, needs=("luck",))}, "are not all of"),
    ],
)
def test_a_metric_with_a_fault_is_caught(registered, fault, changes, said):
    kind = registered(METRICS, broken_metric, **changes)
    with pytest.raises(AssertionError, match=said):
        check_metric(kind(fault=fault))


def test_a_metric_without_a_fault_is_let_through(registered):
    check_metric(registered(METRICS, broken_metric)(fault=""))


def test_a_score_without_a_number_needs_a_reason():
    with pytest.raises(PellucidError, match="NaN and a reason go together"):
        Outcome(torch.tensor([torch.nan]), ("",))


def test_the_small_net_is_the_same_every_time_and_is_not_blind():
    x = small_images()
    one, two, other = small_net(), small_net(), small_net(seed=1)
    assert torch.equal(one(x), two(x))
    assert not torch.equal(one(x), other(x))
    assert one(x).std(0).min() > 1e-3
    assert not one.training


def test_small_images_have_their_discs_where_the_masks_say():
    for dims in (1, 2, 3):
        x, masks = small_images(dims, size=12).mean(1), small_masks(dims, size=12)
        assert x.shape == masks.shape
        assert x[masks].mean() > x[~masks].mean() + 0.3
    with pytest.raises(ShapeError, match="1, 2 or 3 spatial axes"):
        small_images(4)


def test_the_net_of_a_user_is_given_back_in_its_own_mode():
    net = small_net()
    net.train()
    net.stem.eval()
    untouched(net, lambda: None)
    assert (net.training, net.stem.training) == (True, False)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in net.parameters())


def test_an_interruption_passes_through_what_lets_it_pass():
    net = nn.Identity()
    interrupted(net, lambda: net(torch.ones(1)), call=0)
    interrupted(net, lambda: net(torch.ones(1)), call=1)
    assert not net._forward_pre_hooks
