import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pellucid.errors import BadImage
from pellucid.images import ImageRecord, ImageSet
from pellucid.models import split_images


def labelled(labels, **columns):
    import pyarrow as pa

    return ImageSet(
        ids=tuple(f"i{place}" for place in range(len(labels))), record=ImageRecord("CX", ("g",)), shape=(1, 1),
        load=lambda name: torch.zeros(1, 1), classes=("a", "b", "c"), labels=tuple(labels),
        metadata=pa.table(columns) if columns else pa.table({}),
    )  # fmt: skip


rows = st.lists(st.tuples(st.integers(0, 2), st.one_of(st.none(), st.integers(0, 12))), min_size=1, max_size=80)


@settings(max_examples=150, deadline=None)
@given(rows=rows, seed=st.integers(0, 5))
def test_no_group_is_ever_in_two_parts(rows, seed):
    labels, groups = zip(*rows, strict=True)
    images = labelled(labels, plate=groups)
    try:
        parts = split_images(images, group="plate", seed=seed)
    except BadImage:
        assert len({group for group in groups if group is not None}) + groups.count(None) < 3
        return
    assert sorted((*parts.train, *parts.val, *parts.test)) == sorted(images.ids)
    assert parts.train
    assert parts.val
    assert parts.test
    of = dict(zip(images.ids, groups, strict=True))
    held = [{of[name] for name in part} - {None} for part in (parts.train, parts.val, parts.test)]
    assert not held[0] & held[1]
    assert not held[0] & held[2]
    assert not held[1] & held[2]


@settings(max_examples=60, deadline=None)
@given(rows=rows, seed=st.integers(0, 3))
def test_a_val_part_cut_from_train_never_parts_a_group(rows, seed):
    labels, groups = zip(*rows, strict=True)
    named = ["test" if group == 0 else "train" for group in groups]
    images = labelled(labels, plate=groups, part=named)
    try:
        parts = split_images(images, split="part", group="plate", seed=seed)
    except BadImage:
        trains = [group for group in groups if group != 0]
        assert len({group for group in trains if group is not None}) + trains.count(None) < 2
        return
    of = dict(zip(images.ids, groups, strict=True))
    assert not {of[name] for name in parts.train} & {of[name] for name in parts.val} - {None}
    assert all(of[name] == 0 for name in parts.test)


def test_parts_have_their_shares_in_every_class():
    images = labelled([place % 3 for place in range(300)])
    parts = split_images(images)
    assert [len(part) for part in (parts.train, parts.val, parts.test)] == [210, 45, 45]
    for label in range(3):
        assert abs(images.label(parts.test).count(label) - 15) <= 1


def test_a_split_depends_on_ids_and_seed_and_not_on_order():
    images = labelled([place % 3 for place in range(60)])
    turned = images.select(images.ids[::-1])
    assert set(split_images(images).test) == set(split_images(turned).test)
    assert set(split_images(images).test) != set(split_images(images, seed=1).test)


def test_a_given_split_is_kept_whatever_its_spelling():
    images = labelled([0, 1, 2, 0], part=["Training", "valid", "test", "train"])
    parts = split_images(images, split="part")
    assert (parts.train, parts.val, parts.test) == (("i0", "i3"), ("i1",), ("i2",))


def test_a_given_split_that_parts_a_group_is_refused():
    images = labelled([0, 1, 2], part=["train", "val", "test"], smear=["s1", "s2", "s1"])
    with pytest.raises(BadImage, match="smear 's1' lies in train and in test"):
        split_images(images, split="part", group="smear")


@pytest.mark.parametrize(
    ("columns", "arguments", "says"),
    [
        ({"part": ["train", "both", "test"]}, {"split": "part"}, "'both'; it may hold train, val and test"),
        ({"part": ["test", "test", "val"]}, {"split": "part"}, "no training images"),
        ({"part": ["train", None, "test"]}, {"split": "part"}, "None"),
        ({}, {"split": "part"}, "no metadata column 'part'"),
        ({"plate": ["p", "p", "q"]}, {"group": "plate"}, "2 groups cannot be divided into train, val, test"),
    ],
)
def test_a_split_that_cannot_be_is_one_sentence(columns, arguments, says):
    with pytest.raises(BadImage, match=says):
        split_images(labelled([0, 1, 2], **columns), **arguments)


def test_the_sets_own_split_and_group_columns_are_used_unasked():
    from dataclasses import replace

    given = ["test", "train", "train", "val", "test", "train"]
    images = labelled([0, 1, 0, 1, 0, 1], part=given, plate=["p", "q", "q", "r", "p", "s"])
    own = replace(images, split_column="part", group_column="plate")
    assert split_images(own) == split_images(images, split="part", group="plate")
    with pytest.raises(BadImage, match="plate"):
        split_images(replace(own, metadata=own.metadata.set_column(1, "plate", [["p"] * 6])))
