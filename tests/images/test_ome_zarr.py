"""OME-Zarr of both versions: axes, units, levels, channel names, labels as masks, plates as sets of fields."""

import json
import pickle
from pathlib import Path

import numpy as np
import pytest
import zarr

from pellucid.errors import BadImage
from pellucid.images import read_images

UNITS = {"t": "second", "z": "micrometer", "y": "micrometer", "x": "micrometer"}
KINDS = {"t": "time", "c": "channel"}


def stated(axes: str, scales: list[list[float]], units: dict[str, str]) -> dict:
    return {
        "axes": [
            {"name": axis, "type": KINDS.get(axis, "space")} | ({"unit": units[axis]} if axis in units else {})
            for axis in axes
        ],
        "datasets": [
            {"path": str(place), "coordinateTransformations": [{"type": "scale", "scale": scale}]}
            for place, scale in enumerate(scales)
        ],
        "version": "0.4",
    }


def describe(path: Path, attributes: dict, version: float) -> None:
    group = zarr.open_group(path, mode="a", zarr_format=2 if version < 0.5 else 3)
    group.attrs.update(attributes if version < 0.5 else {"ome": {"version": "0.5", **attributes}})


def write(path, array, axes, *, version=0.4, scale=None, units=UNITS, levels=1, **attributes):
    """Write an image of every second pixel a level."""
    scales = [
        [step * (2**level if axis in "yx" else 1) for step, axis in zip(scale or [1.0] * array.ndim, axes, strict=True)]
        for level in range(levels)
    ]
    describe(path, {"multiscales": [stated(axes, scales, units)], **attributes}, version)
    group = zarr.open_group(path, mode="a")
    for level in range(levels):
        thin = tuple(slice(None, None, 2**level if axis in "yx" else 1) for axis in axes)
        group.create_array(
            str(level), data=np.ascontiguousarray(array[thin]), chunks=tuple(min(8, n) for n in array[thin].shape)
        )
    return path


@pytest.fixture(params=[0.4, 0.5])
def version(request):
    return request.param


@pytest.mark.parametrize(
    ("axes", "shape", "expected"),
    [("yx", (8, 6), "CYX"), ("cyx", (2, 8, 6), "CYX"), ("zyx", (3, 8, 6), "CZYX"), ("tczyx", (2, 3, 4, 8, 6), "CTZYX"),
     ("tczyx", (1, 2, 1, 8, 6), "CYX"), ("tzyx", (2, 3, 8, 6), "CTZYX")],
)  # fmt: skip
def test_axes_and_values_are_those_of_the_store(tmp_path, rng, version, axes, shape, expected):
    stored = rng.integers(0, 65536, shape, dtype=np.uint16)
    images = read_images(write(tmp_path / "a.ome.zarr", stored, axes, version=version))
    assert images.record.axes == expected
    order = [axes.index(letter) for letter in "ctzyx" if letter in axes]
    np.testing.assert_allclose(
        images.tensor()[0].numpy(), stored.transpose(order).reshape(images.shape) / 65535, rtol=1e-6
    )


def test_scales_become_micrometres_by_their_units_and_levels_have_their_own(tmp_path, rng, version):
    stored = rng.normal(size=(2, 3, 16, 12)).astype(np.float32)
    path = write(
        tmp_path / "a.zarr", stored, "tzyx", version=version, levels=2, scale=[0.5, 2000, 0.25, 0.5],
        units={"t": "minute", "z": "nanometer", "y": "micrometer", "x": "micrometer"},
    )  # fmt: skip
    assert read_images(path).record.spacing == (30.0, 2.0, 0.25, 0.5)
    coarse = read_images(path, level=1)
    assert coarse.record.spacing == (30.0, 2.0, 0.5, 1.0)
    np.testing.assert_array_equal(coarse.tensor()[0, 0].numpy(), stored[:, :, ::2, ::2])
    assert (read_images(path, um_per_px=1.0).shape, read_images(path, um_per_px=0.5).shape) == (
        (1, 2, 3, 4, 6),
        (1, 2, 3, 8, 12),
    )
    with pytest.raises(BadImage, match="no level 2; it has 2"):
        read_images(path, level=2)


def test_a_scale_of_the_whole_image_multiplies_and_a_number_without_a_unit_is_no_length(tmp_path, version):
    path = write(
        tmp_path / "a.zarr",
        np.zeros((8, 6), np.uint8),
        "yx",
        version=version,
        scale=[0.5, 0.5],
        units={"x": "micrometer"},
    )
    kept = path / (".zattrs" if version < 0.5 else "zarr.json")
    text = json.loads(kept.read_text())
    inner = text if version < 0.5 else text["attributes"]["ome"]
    inner["multiscales"][0]["coordinateTransformations"] = [{"type": "scale", "scale": [1, 3]}]
    kept.write_text(json.dumps(text))
    assert read_images(path).record.spacing == pytest.approx((np.nan, 1.5), nan_ok=True)


def test_channel_names_come_from_omero(tmp_path, version):
    omero = {"channels": [{"label": "DAPI"}, {"label": "actin"}]}
    path = write(tmp_path / "a.zarr", np.zeros((2, 8, 6), np.uint8), "cyx", version=version, omero=omero)
    assert read_images(path).record.channels == ("DAPI", "actin")


def test_label_images_are_masks_of_the_same_level(tmp_path, rng, version):
    path = write(
        tmp_path / "a.zarr", rng.integers(0, 255, (2, 16, 12), dtype=np.uint8), "cyx", version=version, levels=2
    )
    numbers = rng.integers(0, 5, (16, 12)).astype(np.int32)
    zarr.open_group(path / "labels", mode="a", zarr_format=2 if version < 0.5 else 3)
    describe(path / "labels", {"labels": ["nuclei"]}, version)
    write(path / "labels" / "nuclei", numbers, "yx", version=version, levels=2)
    images = read_images(path)
    assert list(images.masks) == ["nuclei"]
    np.testing.assert_array_equal(images.mask("nuclei")[0].numpy(), numbers)
    np.testing.assert_array_equal(read_images(path, level=1).mask("nuclei")[0].numpy(), numbers[::2, ::2])
    np.testing.assert_array_equal(read_images(path, size=(8, 6)).mask("nuclei")[0].shape, (8, 6))


def plate(path: Path, rng, version: float) -> dict[str, np.ndarray]:
    fields = {}
    describe(path, {"plate": {"wells": [{"path": "A/1"}, {"path": "B/2"}]}}, version)
    for well in ("A/1", "B/2"):
        describe(path / well, {"well": {"images": [{"path": "0"}, {"path": "1"}]}}, version)
        for field in "01":
            fields[f"{well}/{field}"] = rng.integers(0, 255, (2, 8, 6), dtype=np.uint8)
            write(path / well / field, fields[f"{well}/{field}"], "cyx", version=version)
    return fields


def test_a_plate_is_a_set_of_fields_that_know_their_well(tmp_path, rng, version):
    fields = plate(tmp_path / "p.zarr", rng, version)
    images = read_images(tmp_path / "p.zarr", group="well")
    assert images.ids == tuple(fields)
    assert images.column("well") == ["A/1", "A/1", "B/2", "B/2"]
    assert images.column("field") == ["0", "1", "0", "1"]
    np.testing.assert_allclose(images.tensor().numpy(), np.stack(list(fields.values())) / 255, rtol=1e-6)
    well = read_images(tmp_path / "p.zarr" / "B" / "2")
    assert well.ids == ("0", "1")
    field = read_images(tmp_path / "p.zarr" / "B" / "2" / "1")
    assert (field.tensor()[0] == images.tensor(["B/2/1"])[0]).all()


def test_a_folder_of_stores_is_a_set_whose_stores_are_not_entered(tmp_path, rng):
    for name, label in (("a/1.zarr", 3), ("b/2.ome.zarr", 5)):
        write(tmp_path / name, np.full((8, 6), label, np.uint8), "yx")
    images = read_images(tmp_path)
    assert (images.ids, images.classes, images.labels) == (("a/1.zarr", "b/2.ome.zarr"), ("a", "b"), (0, 1))
    assert images.tensor()[:, 0, 0, 0].tolist() == pytest.approx([3 / 255, 5 / 255])


def test_a_manifest_may_name_stores(tmp_path):
    write(tmp_path / "a.zarr", np.full((8, 6), 9, np.uint8), "yx")
    (tmp_path / "labels.csv").write_text("image,label\na.zarr,x\n")
    assert read_images(tmp_path, labels="labels.csv").tensor().max() == pytest.approx(9 / 255)


def test_a_series_of_a_converter_is_chosen(tmp_path):
    describe(tmp_path / "a.zarr", {"bioformats2raw.layout": 3}, 0.4)
    describe(tmp_path / "a.zarr" / "OME", {"series": ["0", "1"]}, 0.4)
    for name in "01":
        write(tmp_path / "a.zarr" / name, np.full((8, 6), int(name) + 1, np.uint8), "yx")
    with pytest.raises(BadImage, match=r"holds 2 images \(0: 0; 1: 1\)"):
        read_images(tmp_path / "a.zarr")
    assert read_images(tmp_path / "a.zarr", series=1).tensor().max() == pytest.approx(2 / 255)


def test_pixels_are_read_when_asked_for_and_by_other_processes(tmp_path, rng, monkeypatch):
    for name in "ab":
        write(tmp_path / f"{name}.zarr", rng.integers(0, 255, (8, 6), dtype=np.uint8), "yx")
    opened = []
    sound = zarr.open_array
    monkeypatch.setattr(
        zarr, "open_array", lambda path, **how: (opened.append(path.parent.name), sound(path, **how))[1]
    )
    images = read_images(tmp_path)
    assert opened == ["a.zarr"]
    again = pickle.loads(pickle.dumps(images))
    assert (again.tensor(["b.zarr"]) == images.tensor(["b.zarr"])).all()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda image: image.pop("axes"), "names no axes"),
        (lambda image: image.update(axes=image["axes"][:1]), "shape|transformation"),
        (lambda image: image["datasets"][0].update(path="../../elsewhere"), "outside the store"),
        (lambda image: image["datasets"][0].update(path="/etc"), "outside the store"),
        (lambda image: image["datasets"][0].update(path="7"), "corrupt, incomplete"),
        (lambda image: image.update(datasets=[]), "no level"),
        (lambda image: image["datasets"][0].update(coordinateTransformations=[{"type": "affine"}]), "type 'affine'"),
    ],
)
def test_stores_that_contradict_themselves_are_refused(tmp_path, change, reason):
    path = write(tmp_path / "a.zarr", np.zeros((8, 6), np.uint8), "yx")
    text = json.loads((path / ".zattrs").read_text())
    change(text["multiscales"][0])
    (path / ".zattrs").write_text(json.dumps(text))
    with pytest.raises(BadImage, match=reason):
        read_images(path)


def test_absurd_sizes_are_refused_by_the_metadata(tmp_path):
    path = write(tmp_path / "a.zarr", np.zeros((8, 6), np.uint8), "yx")
    stated_ = json.loads((path / "0" / ".zarray").read_text())
    for change in ({"shape": [10**9, 10**9]}, {"shape": [10**6, 10], "chunks": [10**9, 10**9]}):
        (path / "0" / ".zarray").write_text(json.dumps(stated_ | change))
        with pytest.raises(BadImage, match="more than the limit"):
            read_images(path)
