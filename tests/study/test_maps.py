import pytest
import torch
import zarr

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.images import ImageRecord, ImageSet
from pellucid.study.maps import MapStore

IMAGES = ImageSet(("a",), ImageRecord("CYX", ("r", "g"), spacing=(0.5, 0.25)), (2, 8, 6), load=lambda _: None)
SALIENCY = METHODS.parse("saliency")


@pytest.fixture
def store(tmp_path):
    found = MapStore(tmp_path / "maps.zarr", 3, 7)
    found.make(SALIENCY, 7, (2, 8, 6), IMAGES)
    return found


def files(store):
    return {path.relative_to(store.root): path.stat().st_mtime_ns for path in store.root.rglob("*") if path.is_file()}


def test_maps_come_back_exactly(store):
    maps = torch.randn(3, 2, 8, 6)
    store.write(SALIENCY, 1, [0, 1, 2], maps)
    assert torch.equal(store.read(SALIENCY, [5, 3]), maps[[2, 0]])


def test_the_last_shard_may_be_short(store):
    maps = torch.randn(1, 2, 8, 6)
    store.write(SALIENCY, 2, [0], maps)
    assert torch.equal(store.read(SALIENCY, [6]), maps)


def test_an_image_without_a_map_is_nan_and_so_is_one_that_was_never_done(store):
    store.write(SALIENCY, 0, [0, 2], torch.ones(2, 2, 8, 6))
    read = store.read(SALIENCY, [0, 1, 2, 4])
    assert [bool(row.isnan().all()) for row in read] == [False, True, False, True]


def test_every_task_writes_one_file_of_its_own(store):
    before = files(store)
    store.write(SALIENCY, 0, [0, 1, 2], torch.ones(3, 2, 8, 6))
    first = files(store)
    store.write(SALIENCY, 1, [0, 1, 2], torch.ones(3, 2, 8, 6))
    second = files(store)
    assert len(first.keys() - before.keys()) == 1
    assert len(second.keys() - first.keys()) == 1
    assert {path: second[path] for path in first} == first


def test_axes_and_pixel_sizes_are_told_in_the_manner_of_ome_ngff(store):
    group = next(iter(zarr.open_group(store.root, mode="r").groups()))[1]
    told = dict(group.attrs)["ome"]["multiscales"][0]
    assert [axis["name"] for axis in told["axes"]] == ["image", "c", "y", "x"]
    assert told["axes"][2]["unit"] == "micrometer"
    assert told["datasets"][0]["coordinateTransformations"][0]["scale"] == [1, 1, 0.5, 0.25]


def test_a_layer_has_larger_pixels(tmp_path):
    store = MapStore(tmp_path / "maps.zarr", 3, 7)
    store.make(SALIENCY, 2, (1, 4, 3), IMAGES)
    group = next(iter(zarr.open_group(store.root, mode="r").groups()))[1]
    scale = dict(group.attrs)["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
    assert scale == [1, 1, 1.0, 0.5]


def test_maps_of_another_method_are_refused(store):
    with pytest.raises(BadStudy, match="no maps of gradcam"):
        store.read(METHODS.parse("gradcam"), [0])
