import json

import numpy as np
import pytest
import zarr

from pellucid.images.multiscale import build_levels, create_pyramid, level_shapes, ome_order, write_labels


@pytest.mark.parametrize(
    ("axes", "shape", "ordered", "after"),
    [
        ("CYX", (3, 5, 7), "CYX", (3, 5, 7)),
        ("CTZYX", (2, 4, 3, 5, 7), "TCZYX", (4, 2, 3, 5, 7)),
        ("CX", (2, 9), "CYX", (2, 1, 9)),
        ("X", (9,), "YX", (1, 9)),
    ],
)
def test_axes_stand_in_the_order_of_ome(axes, shape, ordered, after):
    array = np.arange(np.prod(shape)).reshape(shape)
    found, names = ome_order(array, axes)
    assert names == ordered
    assert found.shape == after
    assert sorted(found.ravel()) == list(range(array.size))
    if axes == "CTZYX":
        assert found[3, 1, 2, 4, 6] == array[1, 3, 2, 4, 6]


def test_levels_halve_until_a_thumbnail():
    assert level_shapes((1, 1000, 300)) == [(1, 1000, 300), (1, 500, 150), (1, 250, 75)]
    assert level_shapes((1, 256, 256)) == [(1, 256, 256)]


@pytest.mark.parametrize("shard", [None, 128])
def test_coarse_levels_are_means_of_two_by_two_whatever_the_shards(tmp_path, shard):
    image = np.random.default_rng(0).normal(size=(2, 601, 513)).astype(np.float32)
    array = create_pyramid(
        tmp_path / "a.ome.zarr", image.shape, axes="CYX", dtype="float32", name="a", chunk=64, shard=shard,
        spacing=(0.5, 0.25), channels=("r", "g"), window=[(0, 1), (-1, 1)],
    )  # fmt: skip
    array[...] = image
    build_levels(tmp_path / "a.ome.zarr")
    group = zarr.open_group(tmp_path / "a.ome.zarr", mode="r")
    expected = image
    for level in ("1", "2"):
        height, width = expected.shape[1:]
        naive = np.empty((2, -(-height // 2), -(-width // 2)))
        for y, x in np.ndindex(naive.shape[1:]):
            # an odd last row or column counts twice, which leaves the mean of what is there
            naive[:, y, x] = expected[:, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2].mean((1, 2))
        np.testing.assert_allclose(group[level][...], naive, atol=1e-6)
        expected = group[level][...]


def test_metadata_is_what_the_standard_asks_for(tmp_path):
    create_pyramid(
        tmp_path / "a.ome.zarr", (2, 600, 300), axes="CYX", dtype="float32", name="a", spacing=(0.5, float("nan")),
        channels=("r", "g"), window=[(0, 1), (-1, 1)], about={"values": "signed"},
    )  # fmt: skip
    told = json.loads((tmp_path / "a.ome.zarr" / "zarr.json").read_text())
    assert told["zarr_format"] == 3
    ome = told["attributes"]["ome"]
    assert ome["version"] == "0.5"
    (scales,) = ome["multiscales"]
    assert scales["axes"] == [
        {"name": "c", "type": "channel"},
        {"name": "y", "type": "space", "unit": "micrometer"},
        {"name": "x", "type": "space"},
    ]
    first, second, third = scales["datasets"]
    assert first["coordinateTransformations"] == [{"type": "scale", "scale": [1.0, 0.5, 1.0]}]
    assert second["coordinateTransformations"] == [
        {"type": "scale", "scale": [1.0, 1.0, 2.0]},
        {"type": "translation", "translation": [0.0, 0.25, 0.5]},
    ]
    assert third["path"] == "2"
    assert [channel["label"] for channel in ome["omero"]["channels"]] == ["r", "g"]
    assert ome["omero"]["channels"][1]["window"] == {"min": -1, "max": 1, "start": -1, "end": 1}
    assert told["attributes"]["pellucid"] == {"values": "signed"}


def test_labels_hang_under_the_image_and_take_no_new_values(tmp_path):
    path = tmp_path / "a.ome.zarr"
    create_pyramid(path, (1, 400, 400), axes="CYX", dtype="float32", name="a")
    labels = np.zeros((400, 400), np.int32)
    labels[100:200, 100:300] = 7
    write_labels(path, {"nuclei": labels}, axes="YX")
    group = zarr.open_group(path / "labels", mode="r")
    assert group.attrs["ome"] == {"version": "0.5", "labels": ["nuclei"]}
    assert group["nuclei"].attrs["ome"]["image-label"] == {"source": {"image": "../../"}}
    assert np.array_equal(group["nuclei/0"][...], labels)
    assert set(np.unique(group["nuclei/1"][...])) == {0, 7}
