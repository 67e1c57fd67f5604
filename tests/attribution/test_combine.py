import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy import stats
from torch.nn import functional

import pellucid
from pellucid.attribution.combine import Combined, combine
from pellucid.attribution.objects import object_sums, object_table
from pellucid.attribution.steps import STEPS
from pellucid.errors import BadRecipe, CannotExplain, ShapeError

sizes = st.floats(2**-60, 100, width=32)  # so that a quotient of two is a float32
finite = st.just(0.0) | sizes | sizes.map(lambda size: -size)
maps = arrays.arrays(np.float32, st.tuples(*[st.integers(1, 4)] * 4), elements=finite).map(torch.from_numpy)


def one(values, *steps, **scene):
    return combine(values, steps, **scene).values


def images(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@given(maps)
def test_channel_pooling_equals_numpy_and_keeps_the_channel_axis(values):
    v = values.numpy()
    strongest = np.take_along_axis(v, np.abs(v).argmax(1, keepdims=True), 1)
    expected = {
        "mean": v.mean(1, keepdims=True),
        "sum": v.sum(1, keepdims=True),
        "max": v.max(1, keepdims=True),
        "max_abs": strongest,
        "l2": np.sqrt((v.astype(float) ** 2).sum(1, keepdims=True)),
    }
    for how, wanted in expected.items():
        np.testing.assert_allclose(one(values, f"pool_channels(how='{how}')"), wanted, rtol=1e-4, atol=1e-4)


@given(maps)
def test_sign_handling_splits_a_map_into_for_and_against(values):
    both = {how: one(values, f"keep_sign(how='{how}')") for how in ("signed", "positive", "negative", "absolute")}
    assert torch.equal(both["signed"], values)
    assert torch.equal(both["positive"] + both["negative"], values)
    assert torch.equal(both["positive"] - both["negative"], both["absolute"])


@given(maps)
def test_normalising_divides_by_the_named_scale_and_keeps_every_sign(values):
    sizes = np.abs(values.numpy().astype(float)).reshape(len(values), -1)
    scales = {
        "map_max": sizes.max(1),
        "map_p99": np.percentile(sizes, 99, axis=1),
        "data_max": np.full(len(values), sizes.max()),
        "data_p99": np.full(len(values), np.percentile(sizes, 99)),
        "none": np.ones(len(values)),
    }
    for how, scale in scales.items():
        largest = sizes.max() if how.startswith("data") else sizes.max(1)
        if ((scale == 0) & (largest > 0)).any():
            with pytest.raises(CannotExplain, match=r"the 99th percentile of .* is zero"):
                one(values, f"normalise(how='{how}')")
            continue
        found = one(values, f"normalise(how='{how}')")
        wanted = values.numpy() / np.where(scale == 0, 1, scale)[:, None, None, None]
        np.testing.assert_allclose(found, wanted, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", ["data_max", "data_p99"])
def test_a_scale_of_the_data_keeps_differences_between_images_and_a_scale_of_the_map_does_not(how):
    values = torch.stack([torch.linspace(-1, 1, 300), torch.linspace(-5, 5, 300)]).view(2, 1, 300)
    spans = one(values, f"normalise(how='{how}')").abs().amax((1, 2))
    assert float(spans[1] / spans[0]) == pytest.approx(5)
    own = one(values, f"normalise(how='{how.replace('data', 'map')}')").abs().amax((1, 2))
    assert float(own[1] / own[0]) == pytest.approx(1)


@given(maps)
def test_ranks_quantiles_and_zscores_equal_scipys(values):
    flat = values.numpy().reshape(len(values), -1)
    ranks = stats.rankdata(flat, axis=1)
    count = flat.shape[1]
    np.testing.assert_allclose(one(values, "align").flatten(1), (ranks - 1) / max(1, count - 1), atol=1e-6)
    quantiles = stats.norm.ppf((ranks - 0.5) / count)
    np.testing.assert_allclose(one(values, "align(how='quantile')").flatten(1), quantiles, rtol=1e-5, atol=1e-6)
    assert torch.equal(one(values, "align(how='none')"), values)


@given(maps)
def test_zscores_have_mean_zero_and_spread_one_unless_the_map_is_flat(values):
    found = one(values, "align(how='zscore')").double().flatten(1)
    np.testing.assert_allclose(found.mean(1), 0, atol=1e-4)
    for row, spread in zip(values.flatten(1), found.std(1, correction=0), strict=True):
        assert float(spread) == pytest.approx(0 if row.min() == row.max() else 1, abs=1e-3)


@pytest.mark.parametrize(("rank", "mode"), [(1, "linear"), (2, "bilinear"), (3, "trilinear")])
def test_upsampling_equals_torchs_linear_interpolation_and_never_overshoots(rank, mode):
    values, shape = images(2, 1, *[3, 4, 5][:rank]), (7, 8, 11)[:rank]
    x = images(2, 3, *shape)
    found = combine(values, ["upsample"], x=x)
    expected = functional.interpolate(values, size=shape, mode=mode, align_corners=False)
    torch.testing.assert_close(found.values, expected)
    assert values.min() <= found.values.min() <= found.values.max() <= values.max()
    assert found.steps == (f"upsample(shape={shape})" if rank > 1 else "upsample(shape=(7,))",)


def labelled():
    labels = torch.tensor([[[1, 1, 0], [0, 2, 2]], [[0, 0, 0], [3, 1, 1]]])
    return images(2, 2, 2, 3), labels


def test_objects_are_added_up_and_averaged_as_in_a_loop():
    values, labels = labelled()
    for how, reduce in (("sum", torch.sum), ("density", torch.mean)):
        found = one(values, f"pool_objects(how='{how}')", labels=labels)
        assert found.shape == (2, 2, 3)
        for row, channel, label in np.ndindex(2, 2, 3):
            inside = values[row, channel][labels[row] == label + 1]
            value = found[row, channel, label]
            assert (
                bool(value.isnan())
                if not len(inside)
                else float(value) == pytest.approx(float(reduce(inside)), rel=1e-4)
            )


def test_the_table_of_objects_accounts_for_every_value():
    values, labels = labelled()
    table = object_table(values, labels, ("a", "b")).to_pydict()
    assert sum(table["sum"]) == pytest.approx(float(values.sum()), rel=1e-5)
    assert set(zip(table["image"], table["label"], strict=True)) == {
        ("a", 0), ("a", 1), ("a", 2), ("b", 0), ("b", 1), ("b", 3)
    }  # fmt: skip
    np.testing.assert_allclose(table["density"], np.divide(table["sum"], table["pixels"]))
    sums, pixels = object_sums(values, labels[0])
    assert sums.shape == (2, 2, 3)
    assert pixels.tolist() == [[2, 2, 2]] * 2


def test_several_methods_give_a_consensus_and_where_they_disagree():
    a, b, c = images(2, 1, 4, seed=1), images(2, 1, 4, seed=2), images(2, 1, 4, seed=3)
    stack = np.stack([a, b, c])
    mean = combine([a, b, c], ["aggregate"])
    np.testing.assert_allclose(mean.values, stack.mean(0), rtol=1e-5)
    np.testing.assert_allclose(mean.disagreement, stack.std(0), rtol=1e-5)
    np.testing.assert_allclose(mean.agreement, (np.sign(stack) == np.sign(stack.mean(0))).mean(0), rtol=1e-6)
    for several in ([a, b, c], [a, b]):
        median = combine(several, ["aggregate(how='median')"])
        stacked = np.stack(several)
        np.testing.assert_allclose(median.values, np.median(stacked, 0), rtol=1e-5)
        apart = np.median(np.abs(stacked - np.median(stacked, 0)), 0)
        np.testing.assert_allclose(median.disagreement, apart, rtol=1e-4, atol=1e-7)
    weighted = combine([a, b], ["aggregate(weights=(3, 1))"])
    np.testing.assert_allclose(weighted.values, 0.75 * a + 0.25 * b, rtol=1e-5)
    assert weighted.steps == ("aggregate(weights=(3.0, 1.0))",)


def test_without_alignment_the_largest_method_decides_and_with_it_the_majority_does():
    a = torch.tensor([[[0.0, 1, 2, 3]]])
    loud = 1000 * a.flip(2)
    assert combine([a, a, loud], ["aggregate"]).values.argmax() == 0
    assert combine([a, a, loud], ["align", "aggregate"]).values.argmax() == 3


def test_steps_are_recorded_in_order_and_replay_to_the_same_values():
    x = images(2, 3, 6, 6)
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(108, 2))
    e = pellucid.explain(model, x, "gradient")
    steps = ["pool_channels(how='max')", "keep_sign(how='positive')", "normalise(how='data_p99')"]
    whole = combine(e, steps)
    assert whole.steps == ('pool_channels(how="max")', 'keep_sign(how="positive")', 'normalise(how="data_p99")')
    assert whole.sources == ("gradient",)
    in_turn = combine(combine(e, steps[:1]), steps[1:])
    assert in_turn.steps == whole.steps
    assert torch.equal(in_turn.values, whole.values)
    assert torch.equal(combine(e, whole.steps).values, whole.values)
    assert torch.equal(combine(e, []).values, e.values)
    assert combine(e, []).steps == ()


def test_inputs_are_never_written_to():
    values, labels = labelled()
    kept = values.clone()
    for step in STEPS:
        if step != "aggregate":
            combine(values, [f"{step}"], x=values, labels=labels)
    combine([values, values], ["align(how='zscore')", "aggregate(how='median')"])
    assert torch.equal(values, kept)


@pytest.mark.parametrize(
    ("call", "error", "said"),
    [
        (lambda v: combine(v, ["upsample"]), BadRecipe, "needs to know the images' shape"),
        (lambda v: combine(v, ["upsample(shape=(4,))"]), ShapeError, "has 1 axes and the map 2"),
        (lambda v: combine(v, ["pool_objects"]), BadRecipe, "needs labelled objects"),
        (
            lambda v: combine(v, ["pool_objects"], labels=torch.zeros(9, 9, dtype=torch.int)),
            ShapeError,
            "labels have shape",
        ),
        (lambda v: combine(v, ["pool_objects"], labels=torch.zeros(2, 3)), ShapeError, "whole numbers"),
        (lambda v: combine(v, ["pool_chanels"]), BadRecipe, "did you mean pool_channels"),
        (lambda v: combine(v, ["pool_channels(how='median')"]), BadRecipe, "how does not fit"),
        (lambda v: combine(v, ["aggregate"]), BadRecipe, "several methods' maps"),
        (lambda v: combine([v, v], ["align"]), BadRecipe, "needs aggregate as its last step"),
        (lambda v: combine([v], ["aggregate"]), BadRecipe, "at least two"),
        (lambda v: combine([], ["aggregate"]), BadRecipe, "given no map"),
        (lambda v: combine([v, v[:, :1]], ["aggregate"]), ShapeError, "pool_channels and upsample them to one"),
        (lambda v: combine([v, v], ["aggregate(weights=(1,))"]), BadRecipe, "1 weights for 2 methods"),
        (lambda v: combine([v, v], ["aggregate(how='median', weights=(1, 1))"]), BadRecipe, "go with how='mean'"),
        (lambda v: combine([v, combine(v, ["align"])], ["aggregate"]), BadRecipe, "through different steps"),
        (lambda v: combine(v / 0 * 0, ["normalise(how='map_max')"]), ShapeError, "met NaN"),
    ],
)
def test_what_cannot_be_combined_is_refused_in_a_sentence(call, error, said):
    with pytest.raises(error, match=said):
        call(labelled()[0])


def test_a_combined_value_knows_its_rows():
    assert len(combine(images(3, 1, 4), [])) == 3
    assert isinstance(combine(images(3, 1, 4), []), Combined)
