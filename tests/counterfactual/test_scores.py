"""Every score against a number known by construction, and controls that must be exposed."""

import numpy as np
import pytest
import torch

from pellucid.counterfactual import Measured, counterfactual, gate, score_counterfactuals, summarise
from pellucid.errors import ShapeError


@pytest.fixture(scope="module")
def found(world):
    return counterfactual(world.model, world.held_out[:30], generator=world.fitted, gate=world.gate)


def column(table, score, model=""):
    rows = [row for row in table.to_pylist() if row["score"] == score and row["model"] == model]
    return np.array([row["value"] for row in rows], dtype=float)


def measured(world, found):
    before, after = (world.fitted.encode(x).numpy() for x in (found.images, found.changed))
    names = tuple(f"blob_{place}" for place in range(6))
    return Measured(names, before, after, world.z.numpy().std(0), causal=("blob_0",))


def test_validity_is_judged_by_each_model_on_images_that_it_did_not_hold_to_be_there(world, found):
    torch.manual_seed(0)
    deaf = type(world.model)(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, 2)), classes=("dark", "bright")
    )
    table = score_counterfactuals(found, others={"again": world.reader(0.3), "deaf": deaf})
    assert column(table, "validity").mean() == 1
    assert column(table, "validity", "again").mean() > 0.9
    assert column(table, "validity", "deaf").mean() < 0.75  # half of them, by chance
    start = deaf.network(found.images).argmax(1) == found.after.argmax(1)
    assert len(column(table, "validity", "deaf")) == 30 - int(start.sum())


def test_what_is_seen_of_the_change(world, found):
    table = score_counterfactuals(found, threshold=0.1)
    change = (found.changed - found.images).abs()
    support = world.gate.support
    np.testing.assert_allclose(
        column(table, "proximity"), change.mean((1, 2, 3)) / support.typical_difference, rtol=1e-5
    )
    reach = 0.1 * (support.high - support.low)
    np.testing.assert_allclose(column(table, "sparsity"), (change > reach).double().mean((1, 2, 3)), rtol=1e-6)
    assert (column(table, "monotonicity") > 0.999).all()
    assert column(table, "outside").mean() < 0.03
    assert (column(table, "grain") < 0.2).all()


def test_specificity_is_causal_shift_over_nuisance_drift(world, found):
    told = measured(world, found)
    table = score_counterfactuals(found, measured=told)
    sizes = np.abs(told.after - told.before) / told.spread
    np.testing.assert_allclose(column(table, "causal_shift"), sizes[:, 0], rtol=1e-5)
    np.testing.assert_allclose(column(table, "nuisance_drift"), sizes[:, 1:].mean(1), rtol=1e-5)
    assert np.median(column(table, "specificity")) > 10


def test_a_pixel_attack_reaches_its_target_and_is_exposed(world):
    brittle = world.reader(world.brittle)
    closed = gate(world.fitted, brittle, world.held_out, training=world.images, search="pixel_attack")
    attacked = counterfactual(
        brittle, world.held_out[:30], search="pixel_attack", generator=world.fitted, gate=closed
    )  # fmt: skip
    table = score_counterfactuals(attacked, others={"sound": world.model}, measured=measured(world, attacked))
    assert column(table, "validity").mean() == 1
    assert column(table, "validity", "sound").mean() < 0.2
    assert np.median(column(table, "grain")) > 0.8
    assert not closed.passed


def test_a_net_of_shuffled_labels_has_no_specific_phenotype(world):
    torch.manual_seed(0)
    shuffled = type(world.model)(
        torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(576, 2)), classes=("dark", "bright"), task="classification"
    )  # fmt: skip
    x, y = world.images, torch.randint(2, (300,), generator=torch.Generator().manual_seed(3))
    optimiser = torch.optim.Adam(shuffled.network.parameters(), lr=1e-2)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(shuffled.network(x), y).backward()
        optimiser.step()
    got = counterfactual(
        shuffled, world.held_out[:30], generator=world.fitted, gate=gate(world.fitted, shuffled, world.held_out, training=x)
    )  # fmt: skip
    table = score_counterfactuals(got, measured=measured(world, got))
    assert np.median(column(table, "specificity")) < 3


def test_summaries_have_intervals_and_know_groups(found):
    table = score_counterfactuals(found)
    told = summarise(table)
    assert told["validity", ""].value == 1
    assert 0.85 < told["validity", ""].low < 1
    pairs = {name: str(int(name) // 10) for name in found.ids}
    assert summarise(table, groups=pairs)["proximity", ""].groups == 3


def test_images_that_were_there_have_no_row(world):
    got = counterfactual(world.model, world.held_out[:10], target=1, generator=world.fitted, gate=world.gate)
    there = [name for name, status in zip(got.ids, got.status, strict=True) if status == "already there"]
    assert there
    assert not set(score_counterfactuals(got)["image"].to_pylist()) & set(there)


def test_measures_that_do_not_fit_are_refused(found, world):
    told = measured(world, found)
    with pytest.raises(ShapeError, match="measures that decide and others"):
        Measured(told.names, told.before, told.after, told.spread, causal=()).parts()
    with pytest.raises(ShapeError, match="6 names"):
        Measured(told.names, told.before[:, :2], told.after, told.spread, causal=("blob_0",)).parts()
