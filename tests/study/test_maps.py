import pytest
import torch
import zarr

from pellucid.attribution import METHODS
from pellucid.errors import BadStudy
from pellucid.images import ImageRecord, ImageSet
from pellucid.study.maps import MapStore, reduced, reduced_shape

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


def test_small_maps_are_means_of_the_channel_sums(tmp_path):
    maps = torch.randn(2, 3, 9, 5)
    small = reduced(maps, 4)
    assert small.shape == (2, 1, *reduced_shape((9, 5), 4)) == (2, 1, 4, 2)
    summed = maps.sum(1)
    # an adaptive mean: cell i of n covers floor(i s / n) to ceil((i + 1) s / n)
    naive = torch.empty(2, 4, 2)
    for y, x in ((y, x) for y in range(4) for x in range(2)):
        rows, columns = slice(y * 9 // 4, -(-(y + 1) * 9 // 4)), slice(x * 5 // 2, -(-(x + 1) * 5 // 2))
        naive[:, y, x] = summed[:, rows, columns].mean((1, 2))
    assert torch.allclose(small[:, 0], naive, atol=1e-6)
    assert torch.equal(reduced(maps, 20)[:, 0], summed)
    assert reduced(torch.randn(1, 2, 4, 6, 8, 10), 5).shape == (1, 1, 2, 3, 4, 5)


def test_full_maps_of_a_sample_and_small_ones_of_all(tmp_path):
    store = MapStore(tmp_path / "maps.zarr", 3, 3, 4)
    store.make(SALIENCY, 7, (2, 8, 6), IMAGES)
    maps = torch.randn(7, 2, 8, 6)
    for task in range(3):
        part = maps[3 * task : 3 * task + 3]
        store.write(SALIENCY, task, range(len(part)), part)
    assert torch.equal(store.read(SALIENCY, [0, 1, 2]), maps[:3])
    assert torch.equal(store.read_reduced(SALIENCY, range(7)), reduced(maps, 4))
    with pytest.raises(BadStudy, match="first 3 images in full and not of number 6"):
        store.read(SALIENCY, [5])
    with pytest.raises(BadStudy, match="no reduced maps"):
        MapStore(tmp_path / "maps.zarr", 3, 3).read_reduced(METHODS.parse("gradcam"), [0])
