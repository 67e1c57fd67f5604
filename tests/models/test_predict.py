import pyarrow as pa
import pytest
import torch
from torch import nn

from pellucid.errors import BadImage, ShapeError
from pellucid.models import Model, Normalise, predict


def linear(outputs=3, size=12):
    torch.manual_seed(0)
    return nn.Sequential(nn.Flatten(), nn.Linear(size * size, outputs))


def test_a_table_says_what_the_model_says(make_bars):
    images = make_bars(count=10)
    model = Model(linear(), classes=("a", "b", "c"), preprocess=Normalise((0.4,), (0.2,)), temperature=2.0)
    found = predict(model, images, batch_size=3)
    with torch.inference_mode():
        logits = model.network(*model.prepare(images.tensor()))
    chance = (logits / 2).softmax(1).sort(1, descending=True).values
    assert found.table.column_names == [
        "image",
        "label",
        "predicted",
        "confidence",
        "margin",
        "logit_a",
        "logit_b",
        "logit_c",
    ]
    assert found.table["image"].to_pylist() == list(images.ids)
    assert found.table["label"].to_pylist() == list(images.labels)
    assert found.table["predicted"].to_pylist() == logits.argmax(1).tolist()
    assert found.table["confidence"].to_pylist() == pytest.approx(chance[:, 0].tolist(), abs=1e-6)
    assert found.table["margin"].to_pylist() == pytest.approx((chance[:, 0] - chance[:, 1]).tolist(), abs=1e-6)
    assert found.table["logit_b"].to_pylist() == pytest.approx(logits[:, 1].tolist(), abs=1e-5)
    assert torch.allclose(found.logits, logits, atol=1e-5)
    assert not found.failures


def test_predictions_do_not_depend_on_the_batch(make_bars):
    images, model = make_bars(count=7), Model(linear())
    one, all_at_once = (predict(model, images, batch_size=size).logits for size in (1, 7))
    assert torch.allclose(one, all_at_once, atol=1e-6)


def test_chosen_ids_come_in_their_order(make_bars):
    assert predict(Model(linear()), make_bars(count=7), ["image5", "image2"]).table["image"].to_pylist() == [
        "image5",
        "image2",
    ]


def test_unreadable_images_are_listed_and_the_rest_is_classified(make_bars):
    images = make_bars(count=6, broken=("image0", "image4"))
    found = predict(Model(linear()), images, batch_size=2)
    assert found.table["image"].to_pylist() == ["image1", "image2", "image3", "image5"]
    assert [failure.image for failure in found.failures] == ["image0", "image4"]
    assert "cut off" in found.failures[0].reason


def test_nothing_readable_is_one_sentence(make_bars):
    with pytest.raises(BadImage, match="none of the 1 images could be read: image0 cannot be read"):
        predict(Model(linear()), make_bars(count=3, broken=("image0",)), ["image0"])


def test_unlabelled_images_have_null_labels(make_bars):
    from dataclasses import replace

    found = predict(Model(linear()), replace(make_bars(count=4), labels=None))
    assert found.table["label"].to_pylist() == [None] * 4
    assert found.table.schema.field("label").type == pa.int64()


def test_a_one_logit_net_predicts_two_classes(make_bars):
    found = predict(Model(linear(1), classes=("no", "yes")), make_bars(count=6))
    assert found.table["predicted"].to_pylist() == (found.logits[:, 0] > 0).long().tolist()
    assert min(found.table["confidence"].to_pylist()) >= 0.5


def test_memory_is_bounded_by_the_batch(make_bars):
    from dataclasses import replace

    images, open_now, most = make_bars(count=20), [], []

    class Watched(nn.Module):
        def forward(self, x):
            most.append(len(open_now))
            open_now.clear()
            return x.flatten(1)[:, :3]

    def load(name):
        open_now.append(name)
        return images.load(name)

    predict(Model(Watched()), replace(images, load=load), batch_size=4)
    assert most == [4] * 5


def test_a_segmentation_net_is_refused(make_bars):
    with pytest.raises(ShapeError, match=r"outputs \(N, K\)"):
        predict(Model(nn.Conv2d(1, 2, 1)), make_bars(count=2))


def test_wrong_channels_are_one_sentence(make_bars):
    with pytest.raises(ShapeError, match=r"cannot take images of shape \(1, 12, 12\)"):
        predict(Model(nn.Conv2d(3, 2, 1)), make_bars(count=2))
