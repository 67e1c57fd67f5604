"""Metrics beside Quantus 0.6 and Captum where these are right, on the same maps, holes and noise.

Equal within 1e-4: faithfulness estimate, the curves of pixel flipping and selectivity, sparseness, complexity, pointing
game, top-k, relevance rank and mass, ROC; noisy linear imputation within 1 % of the image's range; Captum's sensitivity
and normalised infidelity. What Quantus gets wrong is in tests/evaluation/test_known_defects.py.
"""

import numpy as np
import pytest
import torch
from torch import nn

from pellucid import evaluate, explain
from pellucid.attribution import Explanation
from pellucid.evaluation.bench import Bench
from pellucid.evaluation.hiding import _draw
from pellucid.evaluation.imputation import impute
from pellucid.evaluation.noise import noise
from pellucid.evaluation.positions import streams
from pellucid.evaluation.regions import patches
from pellucid.evaluation.removal import curve
from pellucid.models import Model, Passes

pytestmark = pytest.mark.peers

QUIET = {"disable_warnings": True, "display_progressbar": False, "abs": False, "normalise": False}
TOLERANCE = 1e-4


@pytest.fixture
def quantus(peer):
    return peer("quantus")


@pytest.fixture
def scene(settled, pixels):
    net = settled(
        nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(256, 3))
    ).requires_grad_(False)
    x, values = pixels(4, 1, 12, 12), pixels(4, 1, 12, 12, seed=2)
    return net, x, values, Explanation.from_values(values, net, x, name="map")


def _theirs(metric, net, x, values, **more):
    chosen = net(x).argmax(1).numpy()
    return metric(model=net, x_batch=x.numpy(), y_batch=chosen, a_batch=values.numpy().copy(), softmax=False, **more)


def _ours(net, x, explained, text, **more):
    return evaluate(net, x, explained, text, **more).table["value"].to_pylist()


def test_faithfulness_estimate(quantus, scene):
    net, x, values, explained = scene
    metric = quantus.FaithfulnessEstimate(features_in_step=1, perturb_baseline=0.0, **QUIET)
    found = _ours(net, x, explained, "faithfulness_estimate(segments=144, fill=0.0)")
    assert found == pytest.approx(list(_theirs(metric, net, x, values)), abs=TOLERANCE)


def _points(net, x, explained, counts, cut=None):
    with Passes(Model.of(net)) as passes:
        bench = Bench(passes, (x,), [explained])
        regions = None if cut is None else patches(bench, cut)
        return curve(bench, counts, 0.0, keep=False, regions=regions)[0].numpy()


def test_the_curve_of_pixel_flipping_after_its_first_point(quantus, scene):
    net, x, values, explained = scene
    metric = quantus.PixelFlipping(features_in_step=12, perturb_baseline=0.0, **QUIET)
    theirs = np.array(_theirs(metric, net, x, values))
    assert _points(net, x, explained, range(12, 145, 12)) == pytest.approx(theirs, abs=TOLERANCE)


def test_the_curve_of_selectivity_after_its_first_point(quantus, scene):
    net, x, values, explained = scene
    metric = quantus.Selectivity(patch_size=4, perturb_baseline=0.0, **QUIET)
    theirs = np.array(_theirs(metric, net, x, values))
    assert _points(net, x, explained, range(1, 10), cut=9) == pytest.approx(theirs, abs=TOLERANCE)


@pytest.mark.parametrize(("kind", "name"), [("Sparseness", "sparseness"), ("Complexity", "complexity")])
def test_complexity(quantus, scene, kind, name):
    net, x, values, _ = scene
    explained = Explanation.from_values(values.abs(), net, x, name="map")
    theirs = _theirs(getattr(quantus, kind)(**QUIET), net, x, values.abs())
    assert _ours(net, x, explained, name) == pytest.approx(list(theirs), abs=TOLERANCE)


@pytest.mark.parametrize(
    ("kind", "settings", "text"),
    [
        ("PointingGame", {}, "pointing_game"),
        ("TopKIntersection", {"k": 14}, "top_k_intersection(share=0.1)"),
        ("RelevanceRankAccuracy", {}, "relevance_rank"),
        ("RelevanceMassAccuracy", {}, "relevance_mass"),
        ("AUC", {}, "localisation_auc"),
    ],
)
def test_localisation(quantus, scene, kind, settings, text):
    net, x, values, _ = scene
    explained = Explanation.from_values(values.abs(), net, x, name="map")
    masks = torch.zeros(4, 1, 12, 12)
    masks[:, :, 2:7, 3:9] = 1
    theirs = _theirs(getattr(quantus, kind)(**settings, **QUIET), net, x, values.abs(), s_batch=masks.numpy())
    assert _ours(net, x, explained, text, masks=masks[:, 0]) == pytest.approx([float(v) for v in theirs], abs=TOLERANCE)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_noisy_linear_imputation_without_noise(peer, scene, share):
    peer("quantus")
    fill = peer("quantus.functions.perturb_func").noisy_linear_imputation
    _, x, values, _ = scene
    order = values.flatten(1).argsort(descending=True)[:, : round(144 * share)]
    hidden = torch.zeros(4, 144, dtype=torch.bool).scatter_(1, order, value=True).view(4, 1, 12, 12)
    found = impute(x, hidden)
    for row in range(4):
        theirs = fill(x[row].numpy().copy(), order[row].numpy(), noise=0.0)
        spread = float(x[row].max() - x[row].min())
        assert found[row].numpy() == pytest.approx(np.asarray(theirs).reshape(1, 12, 12), abs=0.01 * spread)


def test_captums_sensitivity_on_the_same_noise(peer, scene):
    captum, net = peer("captum.metrics"), scene[0]
    x = scene[1]
    explained = explain(net, x, "input_x_gradient")
    with Passes(Model.of(net)) as passes:
        drawn = noise(Bench(passes, (x,), [explained]), 0.02, 4, torch.arange(16))[0]

    def again(inputs, **_):
        given = inputs[0] if isinstance(inputs, tuple) else inputs
        # A tuple: of a bare tensor Captum would take the rows for inputs, and give a wrong number without a word.
        return (explain(net, given, "input_x_gradient", net(x).argmax(1).tolist()).values,)

    each = [
        captum.sensitivity_max(again, x, lambda _, _radius, *, part=drawn[sample::4]: x + part, n_perturb_samples=1)
        for sample in range(4)
    ]
    theirs = torch.stack(each).amax(0)
    assert _ours(net, x, explained, "max_sensitivity(samples=4)") == pytest.approx(theirs.tolist(), rel=1e-3)


def test_captums_normalised_infidelity_on_the_same_holes(peer, scene):
    captum = peer("captum.metrics")
    net, x, values, explained = scene
    chosen = net(x).argmax(1)
    (stream,) = streams([Bench(Passes(Model.of(net)).__enter__(), (x,), [explained]).seeds[0]], "subsets 14 16")
    holes = _draw(stream, 16, 144, 14).view(16, 1, 12, 12)

    def perturb(inputs):
        taken = inputs * holes.repeat(4, 1, 1, 1)  # Captum repeats every row 16 times in a run
        return taken, inputs - taken

    theirs = captum.infidelity(
        net, perturb, x, values, target=chosen, n_perturb_samples=16, normalize=True, max_examples_per_batch=None
    )
    drops = [
        (net(x[row : row + 1])[0, chosen[row]] - net(x[row : row + 1] * ~holes)[:, chosen[row]]).double()
        for row in range(4)
    ]
    total = torch.stack([part.square().mean() for part in drops])
    signs = [float((values[row] * x[row] * holes).flatten(1).sum(1).double() @ drops[row]) for row in range(4)]
    found = _ours(
        net, x, Explanation.from_values(values * x, net, x, name="sums"), 'infidelity(samples=16, fill="zero")'
    )
    for row in range(4):
        expected = (
            float(theirs[row] / total[row]) if signs[row] > 0 else 1.0
        )  # a negative rescaling is no forecast here
        assert found[row] == pytest.approx(expected, abs=1e-3)
