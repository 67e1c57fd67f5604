"""The public contract, line by line, as users write it; and the promises that every method must keep."""

import inspect
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional

import pellucid
from pellucid.attribution import METHODS
from pellucid.errors import BadTarget, PellucidError
from pellucid.testing import small_images, small_masks, small_net, small_vit, untouched

CHEAP = {
    "ablation": "ablation(segments=6)",
    "hsic": "hsic(grid=2, samples=12)",
    "blur_ig": "blur_ig(steps=4)",
    "deep_taylor": "deep_taylor(low=-6.0, high=6.0)",
    "expected_gradients": "expected_gradients(samples=4)",
    "expressive_gradients": "expressive_gradients(steps=4)",
    "extremal_perturbation": "extremal_perturbation(areas=(0.2,), steps=4)",
    "guided_ig": "guided_ig(steps=4)",
    "integrated_gradients": "integrated_gradients(steps=4)",
    "kernel_shap": "kernel_shap(segments=4, samples=40)",
    "lime": "lime(segments=4, samples=12)",
    "occlusion": "occlusion(window=5, stride=4)",
    "owen": "owen(segments=4, samples=4)",
    "rise": "rise(samples=8)",
    "shapley_sampling": "shapley_sampling(segments=4)",
    "smoothgrad": "smoothgrad(samples=2)",
    "sobol": "sobol(grid=2, samples=4)",
    "vargrad": "vargrad(samples=3)",
}
FITTED = {"pattern_net", "pattern_attribution"}
PANEL = [
    *(CHEAP.get(name, name) for name in sorted(set(METHODS) - FITTED)),
    'lrp(composite="epsilon_gamma_box", low=-4.0, high=4.0)',
]


def pixels(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- images and models -------------------------------------------------------------------------------------------

NETS = """
import torch
from torch import nn


def build():
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
"""


@pytest.fixture
def bench(tmp_path, monkeypatch):
    """A folder with images, labels and masks, and a package with weights, as the contract's first lines assume."""
    random = np.random.default_rng(0)
    for folder in ("images", "masks", "package"):
        (tmp_path / folder).mkdir()
    rows = ["image,label"]
    for row in range(6):
        Image.fromarray(random.integers(0, 255, (12, 10, 3), dtype=np.uint8)).save(tmp_path / "images" / f"{row}.png")
        mask = np.zeros((12, 10), np.uint8)
        mask[3:7, 2:6] = 255
        Image.fromarray(mask).save(tmp_path / "masks" / f"{row}.png")
        rows.append(f"{row}.png,{('burr', 'normal')[row % 2]}")
    (tmp_path / "labels.csv").write_text("\n".join(rows) + "\n")
    (tmp_path / "package" / "__init__.py").write_text("")
    (tmp_path / "package" / "module.py").write_text(NETS)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    from package.module import build

    torch.manual_seed(0)
    save_file(build().state_dict(), "net.safetensors")
    return tmp_path


def test_the_code_block_of_the_contract_runs_as_it_is_written(bench):
    images = pellucid.read_images("images/", labels="labels.csv", masks="masks/")
    assert isinstance(images, pellucid.ImageSet)
    x = images.tensor(images.ids)
    assert (len(images.ids), x.shape, x.dtype) == (6, (6, 3, 12, 10), torch.float32)
    assert images.classes == ("burr", "normal")

    model = pellucid.load_model("net.safetensors", factory="package.module:build", classes=["burr", "normal"])
    assert isinstance(model, pellucid.Model)

    method = "integrated_gradients(steps=64)"
    e = pellucid.explain(model, x, method=method, target=None, ids=images.ids, seed=0, batch_size=None, progress=False)
    assert e.values.shape == x.shape
    e2 = pellucid.Explanation.from_values(pixels(6, 1, 12, 10), model, x, target=1, name="mine")
    e3 = pellucid.explain(model, x, "random_map", target=1)
    masks = images.mask(next(iter(images.masks)), images.ids)
    s = pellucid.evaluate(model, x, [e2, e3], metrics=["sensitivity_n", "relevance_mass"], masks=masks, seed=0)
    assert isinstance(s, pellucid.Scores)
    assert isinstance(s.table, pa.Table)
    r = pellucid.rank(s)
    assert isinstance(r, pellucid.Ranking)
    assert {"mine", "random_map"} == set(r.table["method"].to_pylist())


def test_one_file_is_read_as_a_set_of_one(bench):
    images = pellucid.read_images("images/3.png")
    assert images.tensor().shape == (1, 3, 12, 10)
    assert images.labels is None


def test_weights_that_could_execute_are_refused(bench):
    torch.save(nn.Linear(2, 2), "pickled.pt")
    with pytest.raises(pellucid.UntrustedModel, match=r"pickled\.pt"):
        pellucid.load_model("pickled.pt", factory="package.module:build", classes=["burr", "normal"])


def test_a_study_is_run_and_reported_from_its_directory(bench):
    from pellucid.models import residual_net, save_model
    from pellucid.models.model import Source

    torch.manual_seed(0)
    settings = {"classes": 2, "channels": 3, "dims": 2, "width": 4, "depth": 1}
    source = Source(factory="pellucid.models.networks:residual_net", settings=settings)
    net = pellucid.Model(residual_net(**settings).eval(), classes=("burr", "normal"), source=source)
    save_model(net, "own.safetensors")
    Path("study.toml").write_text(
        '[images]\npath = "images"\nlabels = "labels.csv"\n[model]\nweights = "own.safetensors"\n'
        '[explain]\nmethods = ["saliency", "gradcam"]\nimages = 4\n[evaluate]\nmetrics = ["sparseness"]\n'
    )
    pellucid.Study.create("study.toml", "study/")
    study = pellucid.Study("study/")
    failures = study.run()
    assert failures.num_rows == 0, failures.to_pylist()
    page = Path(study.report()).read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>")
    assert {path.name for path in Path("study").iterdir()} >= {
        "study.toml", "maps.zarr", "scores", "failures.parquet", "findings.json", "report.html",
    }  # fmt: skip


# --- explain and its result --------------------------------------------------------------------------------------


def test_the_verbs_take_what_the_contract_names():
    explain = list(inspect.signature(pellucid.explain).parameters)
    assert explain == ["model", "x", "method", "target", "ids", "seed", "batch_size", "progress"]
    assert set(inspect.signature(pellucid.evaluate).parameters) >= {
        "model", "x", "explanations", "metrics", "masks", "seed",
    }  # fmt: skip
    assert set(inspect.signature(pellucid.Explanation.from_values).parameters) >= {
        "values", "model", "x", "target", "name",
    }  # fmt: skip


def test_an_explanation_tells_everything_that_judges_it():
    net, x = small_net(), small_images()
    e = pellucid.explain(net, x, "integrated_gradients(steps=16)", ids=["a", "b", "c"], seed=5)
    assert isinstance(e, pellucid.Explanation)
    assert isinstance(e.values, Tensor)
    torch.testing.assert_close(e.output, net(x).amax(1).detach())
    torch.testing.assert_close(
        e.reference_output, net(torch.zeros_like(x)).detach().gather(1, net(x).argmax(1)[:, None])[:, 0]
    )
    missed = e.values.flatten(1).sum(1) - (e.output - e.reference_output)
    torch.testing.assert_close(e.gap, missed.abs(), atol=1e-5, rtol=0)
    assert e.error is None
    assert isinstance(e.method, pellucid.Method)
    assert str(e.method) == "integrated_gradients(steps=16)"
    assert (e.ids, e.seed) == (("a", "b", "c"), 5)
    assert (e.forwards > 0, e.backwards >= 3 * 16, e.warnings) == (True, True, ())
    sampled = pellucid.explain(net, x, "smoothgrad(samples=4)")
    assert sampled.error.shape == sampled.values.shape


def test_values_are_raw_signed_and_of_the_layers_shape_for_class_activation_maps():
    net, x = small_net(), small_images()
    assert bool((pellucid.explain(net, x, "gradient").values < 0).any())
    cam = pellucid.explain(net, x, "gradcam").values
    assert cam.shape[2:] == (4, 4)
    assert bool((pellucid.explain(net, x, "gradcam", target=0).values < 0).any() | (cam < 0).any())
    saliency, gradient = (pellucid.explain(net, x, name).values for name in ("saliency", "gradient"))
    torch.testing.assert_close(saliency, gradient.abs())


def test_several_inputs_have_several_values():
    def two(a, b):
        return torch.stack([(2 * a).sum((1, 2, 3)) - b.sum((1, 2, 3)), b.sum((1, 2, 3))], 1)

    a, b = pixels(2, 1, 4, 4), pixels(2, 3, 3, 3, seed=1)
    e = pellucid.explain(two, (a, b), "gradient", target=0)
    assert isinstance(e.values, tuple)
    torch.testing.assert_close(e.values[0], torch.full_like(a, 2.0))
    torch.testing.assert_close(e.values[1], torch.full_like(b, -1.0))


def test_targets_are_what_the_contract_names():
    for name in ("Class", "Contrast", "LogOdds", "Region", "Output", "Similarity", "Latent"):
        assert hasattr(pellucid.targets, name), name
    net, x = small_net(), small_images()
    logits = net(x).detach()
    targets = pellucid.targets

    def output(target, model=net):
        return pellucid.explain(model, x, "gradient", target=target).output

    torch.testing.assert_close(output(None), logits.amax(1))
    torch.testing.assert_close(output(2), logits[:, 2])
    torch.testing.assert_close(output([0, 1, 2]), logits.diagonal())
    torch.testing.assert_close(output(targets.Class(1)), logits[:, 1])
    torch.testing.assert_close(output(targets.Output(1)), logits[:, 1])
    torch.testing.assert_close(output(targets.Contrast(0, 2)), logits[:, 0] - logits[:, 2])
    torch.testing.assert_close(output(targets.LogOdds(1)), torch.logit(logits.softmax(1)[:, 1]))
    embedding = net.pool(net.stages(net.stem(x))).detach()
    torch.testing.assert_close(output(targets.Latent(3, layer="pool")), embedding[:, 3])
    direction = pixels(embedding.shape[1])
    cosine = functional.cosine_similarity(embedding, direction[None])
    torch.testing.assert_close(output(targets.Similarity(direction, layer="pool")), cosine)
    dense = nn.Conv2d(3, 2, 1)
    box = targets.Region(1, box=((2, 3), (6, 9)))
    torch.testing.assert_close(output(box, dense), dense(x)[:, 1, 2:6, 3:9].mean((1, 2)).detach())


@pytest.mark.parametrize(
    ("model", "said"),
    [
        (pellucid.Model(small_net(), task="regression"), r"give pellucid\.targets\.Output"),
        (nn.Conv2d(3, 2, 1), r"give pellucid\.targets\.Region"),
    ],
)
def test_a_default_target_is_never_guessed(model, said):
    with pytest.raises(BadTarget, match=said):
        pellucid.explain(model, small_images(), "gradient")


def test_one_logit_is_explained_without_being_asked_for():
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 16 * 16, 1))
    x = small_images()
    torch.testing.assert_close(pellucid.explain(net, x, "gradient").output, net(x)[:, 0].detach())


def test_registries_describe_every_method_and_metric():
    methods, metrics = pellucid.methods(), pellucid.metrics()
    assert set(methods) >= {
        "saliency", "gradient", "input_x_gradient", "deconvnet", "guided_backprop", "smoothgrad", "vargrad",
        "integrated_gradients", "deeplift", "lrp", "gradcam", "guided_gradcam", "occlusion", "ablation", "lime",
        "kernel_shap", "rise",
    }  # fmt: skip
    assert set(metrics) >= {
        "faithfulness_correlation", "sensitivity_n", "pixel_flipping", "insertion", "deletion", "max_sensitivity",
        "local_lipschitz", "relevance_mass", "relevance_rank", "pointing_game", "localisation_auc", "sparseness",
        "complexity", "parameter_randomisation", "completeness_gap", "rank_agreement",
    }  # fmt: skip
    assert all(about.question and about.cost and about.reference for about in methods.values())
    assert all(about.direction in {"higher", "lower"} and about.reference for about in metrics.values())


def test_foreseeable_failures_are_one_sentence():
    net, x = small_net(), small_images()
    for call in (
        lambda: pellucid.explain(net, x, "salience"),
        lambda: pellucid.explain(net, x[:, :2], "gradient"),
        lambda: pellucid.explain(net, x, "gradient", target=9),
        lambda: pellucid.evaluate(net, x, pellucid.explain(net, x, "gradient"), "sparsenes"),
        lambda: pellucid.read_images("no/such/folder"),
    ):
        with pytest.raises(PellucidError) as caught:
            call()
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) > 20


# --- scores and ranking ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def scored():
    net, x = small_net(), small_images(rows=6)
    maps = [pellucid.explain(net, x, method) for method in ("gradient", "input_x_gradient", "random_map")]
    metrics = ["sensitivity_n(samples=8)", "insertion(steps=4)", "relevance_mass", "pointing_game"]
    return pellucid.evaluate(net, x, maps, metrics=metrics, masks=small_masks(rows=6), seed=0)


def test_scores_hold_one_row_an_image_method_and_metric(scored):
    table = scored.table
    assert table.num_rows == 6 * 3 * 4
    assert set(table.column_names) >= {"image", "method", "metric", "value"}
    assert len(set(zip(*(table[name].to_pylist() for name in ("image", "method", "metric")), strict=True))) == 72


def test_the_ranking_keeps_faithfulness_and_plausibility_apart(scored):
    table = pellucid.rank(scored, draws=200).table
    assert set(table.column_names) >= {"family", "metric", "method", "rank", "low", "high", "p_best"}
    overall = [row for row in table.to_pylist() if row["metric"] == "overall"]
    assert {row["family"] for row in overall} == {"faithfulness-side", "plausibility"}
    for side in ("faithfulness-side", "plausibility"):
        own = [row for row in overall if row["family"] == side]
        assert len(own) == 3
        assert sum(row["p_best"] for row in own) == pytest.approx(1)
        assert all(row["low"] <= row["rank"] <= row["high"] for row in own)


# --- closed forms ------------------------------------------------------------------------------------------------


def linear(channels, size=5):
    torch.manual_seed(2)
    return nn.Sequential(nn.Flatten(), nn.Linear(channels * size * size, 2)).requires_grad_(False)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("method", ["integrated_gradients", "input_x_gradient", "deeplift"])
def test_on_a_linear_model_the_values_are_weight_times_pixel(method, channels):
    net, x = linear(channels), pixels(3, channels, 5, 5)
    e = pellucid.explain(net, x, method, target=1)
    torch.testing.assert_close(e.values, net[1].weight[1].view(x[0].shape) * x, atol=1e-4, rtol=0)


@pytest.mark.parametrize("method", ['occlusion(window=1, fill="zero")', 'kernel_shap(segments="pixels")'])
def test_hiding_single_pixels_of_a_linear_model_gives_the_same_or_its_channel_sum(method):
    for channels in (1, 3):
        net, x = linear(channels), pixels(2, channels, 5, 5)
        truth = net[1].weight[1].view(x[0].shape) * x
        e = pellucid.explain(net, x, method, target=1)
        if channels == 1:
            torch.testing.assert_close(e.values, truth, atol=1e-4, rtol=0)
        torch.testing.assert_close(e.values.sum(1), truth.sum(1), atol=1e-4, rtol=0)


class Block(nn.Module):
    def __init__(self, relu):
        super().__init__()
        self.first, self.second = (nn.Conv2d(6, 6, 3, padding=1) for _ in range(2))
        self.norm, self.relu = nn.BatchNorm2d(6), relu

    def forward(self, x):
        return self.relu(self.norm(self.second(self.relu(self.first(x)))) + x)


class ResNet(nn.Module):
    """One in-place ReLU for all layers, functional sums and pooling."""

    def __init__(self):
        super().__init__()
        self.relu = nn.ReLU(inplace=True)
        self.stem, self.norm = nn.Conv2d(3, 6, 3, padding=1), nn.BatchNorm2d(6)
        self.blocks = nn.ModuleList(Block(self.relu) for _ in range(3))
        self.head = nn.Linear(6, 3)

    def forward(self, x):
        x = functional.max_pool2d(self.relu(self.norm(self.stem(x))), 2)
        for block in self.blocks:
            x = block(x)
        return self.head(x.mean((2, 3)))


@pytest.fixture(scope="module")
def residual():
    torch.manual_seed(4)
    net = ResNet()
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            nn.init.uniform_(part.weight, 0.5, 1.5)
            nn.init.uniform_(part.bias, -0.3, 0.3)
            nn.init.uniform_(part.running_mean, -0.3, 0.3)
            nn.init.uniform_(part.running_var, 0.5, 1.5)
    return net.eval()


def test_deeplift_adds_up_on_a_residual_net_with_one_shared_in_place_relu(residual):
    x = pixels(4, 3, 12, 12)
    for baseline in ("zero", "blur", "mean"):
        e = pellucid.explain(residual, x, f'deeplift(baseline="{baseline}")')
        assert float(e.gap.max()) < 1e-4
        assert float((e.values.flatten(1).sum(1) - (e.output - e.reference_output)).abs().max()) < 1e-4


def test_lrp_epsilon_balances_on_a_residual_net_with_one_shared_in_place_relu(residual):
    e = pellucid.explain(residual, pixels(4, 3, 12, 12), "lrp")
    balance = e.values.flatten(1).sum(1) + e.absorbed
    assert float((balance - e.output).abs().max()) < 1e-4
    assert float(e.absorbed.abs().max()) > 1e-3


@pytest.mark.peers
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("method", ["guided_backprop", "deconvnet"])
def test_rectified_gradients_equal_captums_on_the_residual_net(residual, method):
    from captum.attr import Deconvolution, GuidedBackprop

    x = pixels(3, 3, 12, 12)
    e = pellucid.explain(residual, x, method, target=1)
    peer = {"guided_backprop": GuidedBackprop, "deconvnet": Deconvolution}[method](residual)
    torch.testing.assert_close(e.values, peer.attribute(x.clone().requires_grad_(), target=1).detach())


# --- what holds for every method ---------------------------------------------------------------------------------


def suited(residual, method):
    return small_vit(size=12) if "attention" in METHODS.parse(method).needs else residual


@pytest.mark.parametrize("method", PANEL)
def test_row_i_alone_is_row_i_in_a_batch_with_and_without_ids(residual, method):
    net, x, ids = suited(residual, method), pixels(3, 3, 12, 12), ["a", "b", "c"]
    for names in (None, ids):
        together = pellucid.explain(net, x, method, ids=names, seed=2)
        for row in (0, 2):
            own = None if names is None else names[row : row + 1]
            alone = pellucid.explain(net, x[row : row + 1], method, ids=own, seed=2)
            size = float(together.values[row].abs().max())
            torch.testing.assert_close(alone.values[0], together.values[row], atol=1e-5 * size, rtol=1e-4)


@pytest.mark.parametrize("method", PANEL)
def test_the_same_row_twice_without_ids_has_the_same_values_and_with_ids_its_own_draws(residual, method):
    x = pixels(1, 3, 12, 12).repeat(2, 1, 1, 1)
    twins = pellucid.explain(suited(residual, method), x, method).values
    torch.testing.assert_close(twins[0], twins[1], atol=1e-6, rtol=1e-4)
    sampling = {"random_map", "rise", "smoothgrad", "vargrad", "lime"}
    if method.split("(")[0] in sampling:
        named = pellucid.explain(residual, x, method, ids=["a", "b"]).values
        assert not torch.allclose(named[0], named[1], rtol=1e-3)


def fails(net, x, method, call):
    """Explain with a net that breaks half-way through one of its calls; the sentence names what broke."""
    calls = 0

    def explode(_part, _inputs):
        nonlocal calls
        calls += 1
        if calls == call:
            message = "out of luck"
            raise ValueError(message)

    hook = net.head.register_forward_pre_hook(explode)
    try:
        pellucid.explain(net, x, method)
    except PellucidError as error:
        assert "out of luck" in str(error)  # noqa: PT017  # methods that call the net once never come to call 2
    else:
        assert calls < call, "the failure was swallowed"
    finally:
        hook.remove()


@pytest.mark.parametrize("method", PANEL)
def test_the_model_is_untouched_also_when_it_fails_half_way(residual, method):
    net, x = suited(residual, method), pixels(2, 3, 12, 12)
    untouched(net, lambda: pellucid.explain(net, x, method))
    for call in (1, 2):
        untouched(net, lambda call=call: fails(net, x, method, call))
