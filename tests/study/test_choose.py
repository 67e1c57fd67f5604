from collections import Counter

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pellucid.errors import BadStudy
from pellucid.images import ImageRecord, ImageSet
from pellucid.study.choose import choose_images, held_out


def predictions(sizes):
    rows = [
        {"image": f"{label}{outcome}{index}", "label": label, "predicted": label if outcome else label + 1}
        for (label, outcome), size in sizes.items()
        for index in range(size)
    ]
    return pa.Table.from_pylist(rows)


sizes_of = st.dictionaries(st.tuples(st.integers(0, 3), st.booleans()), st.integers(1, 20), min_size=1)


@given(sizes_of, st.integers(1, 40), st.sampled_from(["stratified", "balanced", "random"]))
def test_as_many_images_as_asked_for_are_chosen_each_once(sizes, count, selection):
    table = predictions(sizes)
    ids = table["image"].to_pylist()
    chosen = choose_images(table, ids, count, selection=selection)
    assert len(chosen) == len(set(chosen)) == min(count, len(ids))


@given(sizes_of, st.integers(1, 40), st.randoms(use_true_random=False))
def test_the_order_of_the_rows_changes_nothing(sizes, count, random):
    table = predictions(sizes)
    order = list(range(table.num_rows))
    random.shuffle(order)
    other = table.take(order)
    assert choose_images(table, table["image"].to_pylist(), count) == choose_images(
        other, other["image"].to_pylist(), count
    )


@given(sizes_of, st.integers(1, 40))
def test_stratified_keeps_proportions_within_one_image_and_leaves_no_stratum_out(sizes, count):
    table = predictions(sizes)
    total = sum(sizes.values())
    chosen = choose_images(table, table["image"].to_pylist(), count)
    if count >= total:
        return
    outcome = {row["image"]: (row["label"], row["label"] == row["predicted"]) for row in table.to_pylist()}
    taken = Counter(outcome[image] for image in chosen)
    if count >= len(sizes):
        assert set(taken) == set(sizes)
    if all(size * count >= total for size in sizes.values()):
        assert all(abs(taken[key] - size * count / total) < 1 for key, size in sizes.items())


def test_stratified_follows_the_proportions():
    table = predictions({(0, True): 60, (0, False): 20, (1, True): 20})
    chosen = choose_images(table, table["image"].to_pylist(), 10)
    assert Counter(image[:2] for image in (name.replace("True", "T").replace("False", "F") for name in chosen)) == {
        "0T": 6, "0F": 2, "1T": 2,
    }  # fmt: skip


def test_balanced_takes_the_same_number_of_each():
    table = predictions({(0, True): 60, (0, False): 3, (1, True): 20})
    chosen = choose_images(table, table["image"].to_pylist(), 15, selection="balanced")
    assert sorted(Counter(name[:2] for name in chosen).values()) == [3, 6, 6]


def test_another_seed_chooses_others_and_zero_takes_all():
    table = predictions({(0, True): 50})
    ids = table["image"].to_pylist()
    assert choose_images(table, ids, 10, seed=0) != choose_images(table, ids, 10, seed=1)
    assert set(choose_images(table, ids, 0)) == set(ids)


def an_image_set(splits):
    ids = tuple(f"i{index}" for index in range(len(splits)))
    record = ImageRecord("CYX", ("grey",))
    table = pa.table({"split": splits})
    return ImageSet(ids, record, (1, 4, 4), load=lambda _: None, metadata=table, split_column="split")


def test_a_loaded_model_is_judged_on_the_test_split():
    assert held_out(an_image_set(["train", "Test", "val", "test"]), trained_here=False, seed=0) == ("i1", "i3")


def test_a_split_column_without_test_images_is_refused():
    with pytest.raises(BadStudy, match="names no test image"):
        held_out(an_image_set(["train", "val"]), trained_here=False, seed=0)
