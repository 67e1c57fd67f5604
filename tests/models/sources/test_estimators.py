import pickle

import joblib
import numpy as np
import pytest
import torch
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import pellucid
from pellucid.errors import CannotExplain, ShapeError, UntrustedModel
from pellucid.models import load_model

RANDOM = np.random.default_rng(0)
ROWS = RANDOM.random((60, 2 * 4 * 4))
LABELS = np.array(["burr", "ghost", "normal"])[np.argsort(np.argsort(ROWS[:, :16].mean(1))) * 3 // 60]
X = torch.from_numpy(ROWS[:4].reshape(4, 2, 4, 4)).float()


@pytest.fixture(scope="module")
def pipeline():
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(ROWS, LABELS)


@pytest.fixture
def saved(tmp_path):
    def save(held, name="pipeline.joblib", **settings):
        joblib.dump(held, tmp_path / name, **settings)
        return tmp_path / name

    return save


@pytest.mark.parametrize("how", ["pickle", "joblib", "zlib", "xz"])
def test_a_pipeline_opens_with_trust_only_and_answers_as_it_is(tmp_path, saved, pipeline, how):
    path = tmp_path / "pipeline.pkl"
    if how == "pickle":
        path.write_bytes(pickle.dumps(pipeline))
    else:
        path = saved(pipeline, **({} if how == "joblib" else {"compress": (how, 3)}))
    with pytest.raises(UntrustedModel, match=r"pickled|Python objects"):
        load_model(path)
    model = load_model(path, trust=True)
    assert (model.classes, model.task) == (("burr", "ghost", "normal"), "classification")
    wanted = torch.from_numpy(pipeline.decision_function(ROWS[:4])).float()
    torch.testing.assert_close(model.network(X), wanted)


def test_perturbation_explains_a_pipeline_as_it_would_any_linear_model(saved, pipeline):
    model = load_model(saved(pipeline), trust=True)
    e = pellucid.explain(model, X, "ablation(segments='pixels')", target="ghost")
    scale, line = pipeline[0], pipeline[1]
    slope = torch.from_numpy(line.coef_[1] / scale.scale_).float().reshape(1, 2, 4, 4)
    torch.testing.assert_close(e.values.sum(1), (slope * X).sum(1), atol=1e-4, rtol=1e-3)
    for method, needed in (("gradient", "gradients"), ("gradcam", "gradients"), ("chefer", "gradients")):
        with pytest.raises(CannotExplain, match=f"{method} needs {needed}"):
            pellucid.explain(model, X, method)


def test_probabilities_become_logits_that_a_softmax_turns_back(saved):
    forest = RandomForestClassifier(12, random_state=0).fit(ROWS, LABELS)
    model = load_model(saved(forest), trust=True)
    wanted = torch.from_numpy(forest.predict_proba(ROWS[:4])).float()
    torch.testing.assert_close(model.network(X).softmax(1), wanted, atol=1e-5, rtol=0)


def test_two_classes_are_one_logit(saved):
    labels = np.where(LABELS == "burr", "burr", "normal")
    forest = RandomForestClassifier(12, random_state=0).fit(ROWS, labels)
    for held in (forest, LogisticRegression().fit(ROWS, labels)):
        model = load_model(saved(held), trust=True)
        outputs = model.network(X)
        assert outputs.shape == (4, 1)
        wanted = torch.from_numpy(held.predict_proba(ROWS[:4])[:, 1]).float()
        torch.testing.assert_close(outputs[:, 0].sigmoid(), wanted, atol=1e-4, rtol=0)


def test_a_regressor_is_one_and_the_order_of_the_channels_can_be_said(saved):
    last = X.movedim(1, -1).flatten(1).numpy()
    ridge = Ridge().fit(last, np.arange(4.0))
    model = load_model(saved(ridge), trust=True, settings={"channels_last": True})
    assert model.task == "regression"
    torch.testing.assert_close(
        model.network(X)[:, 0], torch.from_numpy(ridge.predict(last)).float(), atol=1e-4, rtol=1e-4
    )


def test_images_of_another_size_are_one_sentence(saved, pipeline):
    with pytest.raises(ShapeError, match=r"fitted on 32 numbers an image and the images \(2, 3, 3\)"):
        load_model(saved(pipeline), trust=True).network(torch.rand(1, 2, 3, 3))


def test_what_is_no_estimator_is_one_sentence(saved):
    with pytest.raises(CannotExplain, match="holds dict, neither a network nor a scikit-learn estimator"):
        load_model(saved({"a": np.ones(2)}), trust=True)


def test_any_callable_is_a_model():
    model = pellucid.Model(lambda x: x.flatten(1)[:, :3], classes=("a", "b", "c"))
    e = pellucid.explain(model, X, "ablation(segments='pixels')", target="b")
    assert e.values.shape == X.shape


@pytest.mark.parametrize("foreign", [False, True])
def test_skops_files_of_scikit_learn_open_freely(tmp_path, pipeline, foreign):
    io = pytest.importorskip("skops.io")
    held = make_pipeline(_Own(), pipeline) if foreign else pipeline
    io.dump(held, tmp_path / "pipeline.skops")
    if foreign:
        with pytest.raises(UntrustedModel, match="_Own"):
            load_model(tmp_path / "pipeline.skops")
    model = load_model(tmp_path / "pipeline.skops", trust=foreign)
    torch.testing.assert_close(model.network(X), torch.from_numpy(pipeline.decision_function(ROWS[:4])).float())


class _Own(StandardScaler):
    """A step that scikit-learn does not bring."""

    def fit(self, rows, labels=None):
        return self

    def transform(self, rows):
        return rows
