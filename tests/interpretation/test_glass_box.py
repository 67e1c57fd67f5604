"""Readable models find curves and trees that are there, and gaps have the sign of the truth."""

import numpy as np
import pyarrow as pa
import pytest
import torch
from sklearn.tree import DecisionTreeClassifier

from pellucid.errors import CannotExplain, ShapeError
from pellucid.interpretation.differences import class_differences
from pellucid.interpretation.glass_box import Held, embedded, glass_boxes, support_margins, surrogates
from pellucid.models import Model

RNG = np.random.default_rng(0)
X = RNG.standard_normal((600, 3))
TABLE = pa.table(dict(zip(("size", "round", "noise"), X.T, strict=True)))
GROUPS = [str(place // 10) for place in range(300)]


def held(labels):
    return Held(train=TABLE.slice(0, 300), test=TABLE.slice(300), train_labels=labels[:300].tolist(),
                test_labels=labels[300:].tolist(), test_groups=GROUPS)  # fmt: skip


def accuracy(boxes):
    return dict(zip(boxes.table["model"].to_pylist(), boxes.table["accuracy"].to_pylist(), strict=True))


def test_a_line_is_read_by_the_linear_model_and_a_curve_by_the_additive_one_only():
    line = (X[:, 0] - X[:, 1] > 0).astype(int)
    curve = (np.abs(X[:, 0]) > 0.67).astype(int)
    for labels, good in ((line, {"linear", "additive"}), (curve, {"additive", "tree"})):
        boxes = glass_boxes(held(labels), labels[300:].tolist())
        found = accuracy(boxes)
        assert found["black box"] == 1
        assert all(found[name] > 0.93 for name in good)
        assert found["commonest class"] < 0.6
    assert accuracy(glass_boxes(held(curve), curve[300:].tolist()))["linear"] < 0.65


def test_the_weights_name_what_is_read_and_which_way():
    labels = (X[:, 0] - 0.5 * X[:, 1] > 0).astype(int)
    effects = glass_boxes(held(labels), labels[300:].tolist()).effects().to_pylist()
    assert [row["feature"] for row in effects] == ["size", "round", "noise"]
    assert effects[0]["weight"] > 0 > effects[1]["weight"]


def test_a_gap_is_the_loss_of_accuracy_on_the_same_images_by_group():
    labels = (X[:, 0] > 0).astype(int)
    called = np.where(np.arange(300) % 4 == 0, 1 - labels[300:], labels[300:])
    boxes = glass_boxes(held(labels), called.tolist())
    gap = boxes.gap("linear")
    assert gap.value == pytest.approx(0.75 - accuracy(boxes)["linear"])
    assert gap.high < 0
    assert (gap.n, gap.groups) == (300, 30)
    assert boxes.gap("black box").value == 0


def test_the_surrogate_of_a_tree_is_exact_and_of_noise_is_not():
    tree = DecisionTreeClassifier(max_depth=2, random_state=0).fit(X, (X[:, 0] > 0.3) & (X[:, 1] > 0))
    called = tree.predict(X).astype(int)
    rows = {row["model"]: row for row in surrogates(
        held(called), called[:300].tolist(), called[300:].tolist(), called[:300], called[300:]).to_pylist()}  # fmt: skip
    assert rows["tree"]["fidelity"] > 0.98
    noise = RNG.integers(0, 2, 600)
    rows = {row["model"]: row for row in surrogates(
        held(called), noise[:300].tolist(), noise[300:].tolist(), noise[:300], noise[300:]).to_pylist()}  # fmt: skip
    assert all(row["low"] < 0.55 and row["explained"] < 0.05 for row in rows.values())


def test_missing_values_and_constant_columns_do_no_harm():
    labels = (X[:, 0] > 0).astype(int)
    size = X[:, 0].copy()
    size[::7] = np.nan
    table = pa.table(
        {"size": pa.array(size, from_pandas=True), "same": np.ones(600), "absent": pa.nulls(600, pa.float64())}
    )
    boxes = glass_boxes(Held(train=table.slice(0, 300), test=table.slice(300), train_labels=labels[:300].tolist(),
                             test_labels=labels[300:].tolist()), labels[300:].tolist())  # fmt: skip
    assert min(accuracy(boxes)[name] for name in ("linear", "additive", "tree")) > 0.85


def test_margins_are_distances_to_the_border_in_margins():
    x = np.repeat([[-2.0], [-1.0], [1.0], [2.0]], 50, axis=0)
    table, found = support_margins(
        x, np.repeat([0, 0, 1, 1], 50).tolist(), np.array([[-1.0], [0.0], [1.0], [3.0]]), [0, 0, 1, 1]
    )
    distance = table["distance"].to_pylist()
    assert distance == pytest.approx([-1, 0, 1, 3], abs=0.02)
    assert found.value >= 0.75
    with pytest.raises(CannotExplain, match="two classes"):
        support_margins(x, [0, 1, 2, 2] * 50, x, [0, 1, 2, 2] * 50)


def test_deep_features_are_the_named_layer_averaged_over_space():
    net = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3),
        torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1),
        torch.nn.Flatten(),
        torch.nn.Linear(4, 2),
    )
    x = torch.rand(5, 1, 8, 8)
    model = Model(net, classes=("a", "b"), embedding="1")
    assert np.allclose(embedded(model, x), net[1](net[0](x)).mean((2, 3)).detach().numpy(), atol=1e-6)
    with pytest.raises(CannotExplain, match="need a layer"):
        embedded(Model(net, classes=("a", "b")), x)


def test_class_differences_are_cohens_with_cover():
    covered = 0
    for draw in range(40):
        rng = np.random.default_rng(draw)
        labels = np.repeat([0, 1], 60)
        values = rng.standard_normal(120) + 0.8 * labels
        row = class_differences(pa.table({"size": values}), labels.tolist(), 1).to_pylist()[0]
        covered += row["low"] <= 0.8 <= row["high"]
        inside, others = values[60:], values[:60]
        pooled = np.sqrt((inside.var(ddof=1) + others.var(ddof=1)) / 2)
        assert row["effect"] == pytest.approx((inside.mean() - others.mean()) / pooled)
    assert covered >= 35


def test_a_pair_of_classes_leaves_the_others_out():
    table = pa.table({"size": [1.0, 2.0, 3.0, 4.0, 90.0, 91.0]})
    row = class_differences(table, [0, 0, 1, 1, 2, 2], 1, 0).to_pylist()[0]
    assert (row["mean"], row["other"], row["n"]) == (3.5, 1.5, 4)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ShapeError, match="differ in their columns"):
        Held(train=TABLE, test=TABLE.select(["size"]), train_labels=[0] * 600, test_labels=[0] * 600)
    with pytest.raises(CannotExplain, match="two classes"):
        Held(train=TABLE, test=TABLE, train_labels=[0] * 600, test_labels=[0] * 600)
    with pytest.raises(ShapeError, match="labels"):
        class_differences(TABLE, [0, 1], 1)
