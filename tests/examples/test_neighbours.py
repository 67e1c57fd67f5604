"""Similar cases: exact, never of the query's own group, and the same for a rotated query where that is asked."""

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import nn

from pellucid.errors import ShapeError
from pellucid.examples import RELATIONS, binary_codes, distances, posed_features, similar_cases
from pellucid.models import Model


@pytest.fixture(scope="module")
def found(spots):
    return similar_cases(spots.model, spots.images, spots.ids[:40], groups=spots.groups)


def _nearest(found, query, relation="nearest"):
    return [row for row in found.table.to_pylist() if (row["image"], row["relation"]) == (query, relation)]


@pytest.mark.parametrize("metric", ["cosine", "euclidean"])
def test_distances_are_those_of_an_index(metric):
    torch.manual_seed(0)
    gallery, queries = torch.randn(60, 7), torch.randn(5, 7)
    index = NearestNeighbors(n_neighbors=4, metric=metric).fit(gallery.double().numpy())
    theirs, order = index.kneighbors(queries.double().numpy())
    ours = distances(queries, gallery, metric)
    assert np.array_equal(np.argsort(ours, axis=1)[:, :4], order)
    assert np.allclose(np.sort(ours, axis=1)[:, :4], theirs)


def test_binary_codes_are_the_planted_clouds():
    random = np.random.default_rng(0)
    on = random.random((200, 3)) < 0.4
    values = np.where(on, random.normal(5, 0.5, (200, 3)), random.normal(0, 0.5, (200, 3)))
    values = np.hstack([values, np.zeros((200, 1))])  # a unit that never moves
    codes = binary_codes(torch.from_numpy(values))
    assert np.array_equal(codes[:, :3], on)
    assert not codes[:, 3].any()
    apart = distances(torch.from_numpy(values[:2]), torch.from_numpy(values), "codes")
    assert np.allclose(apart[0], (codes[0] != codes).mean(1))


def test_every_relation_is_what_it_says_and_no_case_is_of_the_query_s_own_group(found, spots):
    group = dict(zip(spots.ids, spots.groups, strict=True))
    labels = dict(zip(spots.ids, spots.images.labels, strict=True))
    features = posed_features(spots.model, spots.images).numpy()
    unit = features / np.linalg.norm(features, axis=1, keepdims=True)
    place = {name: row for row, name in enumerate(spots.ids)}
    for query in found.queries[:8]:
        called = _nearest(found, query)[0]["query_called"]
        for relation in RELATIONS:
            rows = _nearest(found, query, relation)
            assert [row["rank"] for row in rows] == list(range(1, len(rows) + 1))
            assert all(group[row["neighbour"]] != group[query] for row in rows)
            assert all(row["label"] == labels[row["neighbour"]] for row in rows)
        assert all(row["label"] == called for row in _nearest(found, query, "same"))
        assert all(row["label"] != called for row in _nearest(found, query, "other"))
        naive = 1 - unit @ unit[place[query]]
        naive[[group[name] == group[query] for name in spots.ids]] = np.inf
        assert [row["neighbour"] for row in _nearest(found, query)] == [spots.ids[row] for row in naive.argsort()[:5]]


def test_boundary_cases_are_the_least_sure_ones(found, spots):
    from pellucid.models import predict

    table = predict(spots.model, spots.images).table
    margin = dict(zip(table["image"].to_pylist(), table["margin"].to_pylist(), strict=True))
    limit = np.quantile(list(margin.values()), 0.1)
    rows = [row for row in found.table.to_pylist() if row["relation"] == "boundary"]
    assert rows
    assert all(margin[row["neighbour"]] <= limit + 1e-6 for row in rows)


def test_precision_by_label_and_by_the_planted_factor_beats_chance(found, spots):
    label = dict(zip(spots.ids, map(float, spots.images.labels), strict=True))
    group = dict(zip(spots.ids, spots.groups, strict=True))
    by_label = found.precision(label, groups=group)
    assert by_label.value.low > by_label.chance
    factor = {name: dict(zip(spots.ids, values, strict=True)) for name, values in spots.factors.items()}
    planted = found.precision(factor["spot_number"], bins=3, groups=group)
    assert planted.value.value > planted.chance + 0.1
    idle = found.precision(factor["texture_grain"], bins=3, groups=group)
    assert idle.value.low < idle.chance + 0.1
    assert "chance" in str(planted)


class Oriented(nn.Module):
    """Features that know how an object lies: horizontal and vertical edges, at two sides."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.edges = nn.Conv2d(1, 12, 5, padding=2, bias=False)
        self.relu = nn.ReLU()
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(2), nn.Flatten())
        self.head = nn.Linear(48, 2)

    def forward(self, x):
        return self.head(self.pool(self.relu(self.edges(x))))


@pytest.fixture(scope="module")
def solids():
    """Thirty shapes of their own, and each again, turned by a quarter and mirrored, as another image."""
    draw = torch.Generator().manual_seed(0)
    shapes = torch.nn.functional.interpolate(torch.rand(30, 1, 5, 5, generator=draw), size=16, mode="bicubic") > 0.6
    upright = shapes.float()
    return torch.cat([upright, torch.rot90(upright, 1, (-2, -1)).flip(-1)])


@pytest.mark.parametrize("metric", ["cosine", "codes"])
def test_a_rotated_query_misses_its_twin_and_finds_it_where_turns_are_averaged_over(solids, metric):
    ids = [f"{pose} {shape}" for pose in ("upright", "turned") for shape in range(30)]
    model = Model(Oriented(), embedding="pool")
    found = {}
    for pose in ("as_is", "turned"):
        table = similar_cases(model, solids, ids[30:], ids=ids, metric=metric, pose=pose, k=1).table.to_pylist()
        rows = [row for row in table if row["relation"] == "nearest"]
        found[pose] = np.mean([row["neighbour"].split()[1] == row["image"].split()[1] for row in rows])
    assert found["as_is"] < 0.4  # the orientation failure
    assert found["turned"] == 1.0


def test_precision_at_five_falls_for_rotated_queries_and_is_mended_where_turns_are_averaged_over(solids):
    """Six noisy copies of each shape in the gallery, upright; the queries are further copies, turned by a quarter."""
    draw = torch.Generator().manual_seed(1)
    copies = solids[:12].repeat(7, 1, 1, 1)
    copies = copies + 0.05 * torch.randn(copies.shape, generator=draw)
    copies[72:] = copies[72:].rot90(1, (-2, -1))
    ids = [f"copy {row}" for row in range(84)]
    shape = {name: float(row % 12) for row, name in enumerate(ids)}
    model = Model(Oriented(), embedding="pool")
    found = {
        pose: similar_cases(model, copies, ids[72:], ids=ids, pose=pose).precision(shape).value.value
        for pose in ("as_is", "turned")
    }
    assert found["as_is"] < 0.4
    assert found["turned"] > 0.9


def test_turned_features_are_the_same_for_every_pose_of_the_grid(solids):
    model = Model(Oriented(), embedding="pool")
    own = posed_features(model, solids[:4], pose="turned")
    assert torch.allclose(posed_features(model, solids[:4].rot90(3, (-2, -1)), pose="turned"), own, atol=1e-6)
    oblong = solids[:4, :, :12]
    assert torch.allclose(
        posed_features(model, oblong.flip(-2), pose="turned"), posed_features(model, oblong, pose="turned"), atol=1e-6
    )


def test_a_query_unlike_everything_has_no_close_case():
    torch.manual_seed(0)
    features = torch.randn(80, 4) * 0.1 + 1
    features[0] = torch.tensor([40.0, -30.0, 5.0, 0.0])
    ids = [f"cell {row}" for row in range(80)]
    x = torch.rand(80, 1, 16, 16)
    found = similar_cases(Oriented(), x, ids[:5], ids=ids, features=features, metric="euclidean")
    assert found.without_close_case == ("cell 0",)
    assert found.layer == "features"


def test_what_does_not_fit_is_refused(spots):
    with pytest.raises(ShapeError, match="query 'nobody' is not in the gallery of 200 images"):
        similar_cases(spots.model, spots.images, ["nobody"])
    with pytest.raises(ShapeError, match="say layer="):
        similar_cases(Oriented(), torch.rand(4, 1, 16, 16), ["row 0"])
    with pytest.raises(ShapeError, match="metric='manhattan' is none of"):
        distances(torch.rand(2, 3), torch.rand(2, 3), "manhattan")
