"""Strategies: planted ways of deciding come back, an artefact is isolated, named and edited, one way stays one."""

import numpy as np
import pytest
import torch
from sklearn.metrics import adjusted_rand_score

from pellucid.attribution import explain
from pellucid.errors import ShapeError
from pellucid.interpretation import cluster_explanations, find_strategies, named_strategies, pooled_maps


def _blobs(count, y, x, width, jitter, seed, size=28):
    random = np.random.default_rng(seed)
    grid = np.mgrid[:size, :size]
    centres = np.array([y, x]) + random.normal(0, jitter, (count, 2))
    maps = np.exp(-((grid[None] - centres[:, :, None, None]) ** 2).sum(1) / (2 * width**2))
    return torch.from_numpy(maps + 0.05 * random.random(maps.shape))[:, None]


@pytest.mark.parametrize("sizes", [(40, 20), (30, 20, 12)])
def test_planted_groups_come_back(sizes):
    places = [(14, 14, 3.0, 1.5), (4, 24, 1.5, 0.7), (24, 5, 2.0, 0.7)]
    maps = torch.cat(
        [_blobs(size, *place, seed) for seed, (size, place) in enumerate(zip(sizes, places, strict=False))]
    )
    truth = np.repeat(np.arange(len(sizes)), sizes)
    order = np.random.default_rng(0).permutation(len(truth))
    found = cluster_explanations(maps[order])
    assert found.count == len(sizes)
    assert adjusted_rand_score(truth[order], found.labels) > 0.95
    assert found.stability > 0.9
    assert np.bincount(found.labels).tolist() == sorted(sizes, reverse=True)
    assert set(found.members(0)) == set(np.flatnonzero(found.labels == 0))


@pytest.mark.parametrize(
    "maps", [_blobs(60, 14, 14, 3.5, 2.5, 0), torch.rand(60, 1, 28, 28, generator=torch.Generator().manual_seed(0))]
)
def test_one_way_of_deciding_stays_one(maps):
    assert cluster_explanations(maps).count == 1


def test_pooled_maps_are_shares_and_follow_the_object():
    maps = torch.zeros(2, 3, 24, 24)
    maps[0, :, 4:8, 4:8], maps[1, :, 14:18, 12:16] = 1.0, 5.0
    outlines = torch.zeros(2, 24, 24, dtype=torch.bool)
    outlines[0, 3:9, 3:9], outlines[1, 13:19, 11:17] = True, True
    assert np.allclose((pooled_maps(maps) ** 2).sum(1), 1)
    assert np.abs(np.subtract(*pooled_maps(maps))).max() > 0.2
    assert np.allclose(*pooled_maps(maps, outlines))
    assert np.allclose(*pooled_maps(torch.stack([maps[0], 7 * maps[0]])))
    with pytest.raises(ShapeError, match="too few"):
        cluster_explanations(maps)


def test_maps_of_any_number_of_axes_are_grouped():
    line = torch.zeros(30, 1, 40)
    line[:18, :, 5:9], line[18:, :, 30:34] = 1.0, 1.0
    line += 0.05 * torch.rand(line.shape, generator=torch.Generator().manual_seed(0))
    found = named_strategies(line, [f"read {row}" for row in range(30)])
    assert [one.name for one in found.named] == ["mostly at the start", "mostly at the end"]


@pytest.fixture(scope="module")
def two_ways(lab):
    """Treated cells have a bright spot or a tag in the corner; the model takes either."""

    def traits(random, label):
        tagged = random.random() < 0.4
        return {"spot": 0.2 + 0.25 * (label and not tagged), "tag": 0.4 * (label and tagged)}

    images = lab.cells(traits, count=120)

    def model(x):
        spot = 20 * (torch.logsumexp(40 * x[:, :, 8:20, 8:20].mean(1).flatten(1), 1) / 40 - 1.03)
        tag = 20 * (x[:, :, :4, -4:].mean((1, 2, 3)) - 0.42)
        return lab.two(torch.logsumexp(torch.stack([spot, tag], 1), 1))

    def maps(method, ids):
        return explain(model, images.tensor(ids), method, 1).values

    x = images.tensor()
    tagged = x[:, 0, :4, -4:].mean((1, 2)) > 0.4
    text = "occlusion(window=4, stride=2)"
    return lab.evidence(model, images, methods=(text,), maps=maps), dict(zip(images.ids, tagged.tolist(), strict=True))


def test_two_ways_and_the_artefact_among_them_are_found_named_and_confirmed_by_an_edit(two_ways):
    evidence, tagged = two_ways
    findings, tables, found = find_strategies(evidence)
    own = found["kind 1"]
    assert len(own.named) == 2
    groups = [[tagged[own.ids[row]] for row in one.rows] for one in own.named]
    purity = sum(max(sum(group), len(group) - sum(group)) for group in groups) / len(own.ids)
    assert purity >= 0.95
    (artefact,) = [one for one in own.named if one.artefact]
    assert artefact.name == "a fixed place off the object, upper right"
    assert artefact.where[:4, -4:].float().mean() > 0.5
    (claim,) = [one for one in findings if one.id.startswith("strategy-artefact-kind 1")]
    assert (claim.kind, claim.verdict) == ("strategy", "supported")
    assert claim.low > 0.5
    (told,) = [one for one in findings if one.id == "strategies-kind 1"]
    assert "decides in 2 ways" in told.statement
    assert [row["artefact"] for row in tables["strategies"].to_pylist() if row["called"] == "kind 1"].count(True) == 1
    rows = [row for row in tables["strategies"].to_pylist() if row["called"] == "kind 1"]
    assert sum(row["images"] for row in rows) == len(own.ids)
    assert {row["image"] for row in tables["strategy_images"].to_pylist()} >= set(own.ids)
    assert own.strategy(own.ids[own.named[1].rows[0]]) is own.named[1]


def test_a_model_of_one_way_has_no_artefact(lab):
    images = lab.cells(lab.TRAITS["spot"], count=60)
    evidence = lab.evidence(
        lab.MODELS["spot"], images, methods=("occlusion(window=4, stride=2)",),
        maps=lambda method, ids: explain(lab.MODELS["spot"], images.tensor(ids), method, 1).values,
    )  # fmt: skip
    findings, _, found = find_strategies(evidence)
    assert not any(one.artefact for own in found.values() for one in own.named)
    assert [one.id for one in findings] == ["strategies-single"]
    assert findings[0].verdict == "undecided"


def test_without_maps_or_images_enough_the_question_is_refused(lab):
    images = lab.cells(lab.TRAITS["spot"], count=10)
    few = lab.evidence(lab.MODELS["spot"], images, methods=("saliency",))
    assert find_strategies(few)[0][0].kind == "refused"
    assert "no method" in find_strategies(lab.evidence(lab.MODELS["spot"], images))[0][0].evidence
    with pytest.raises(ShapeError, match="frame='object'"):
        named_strategies(torch.rand(20, 1, 8, 8), [f"{row}" for row in range(20)], frame="object")
