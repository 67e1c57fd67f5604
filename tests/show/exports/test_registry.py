import csv
import json
import math
import subprocess
import sys
import warnings

import numpy as np
import pytest
import tifffile
import zarr

from pellucid.errors import BadStudy
from pellucid.show.exports import EXPORTS
from pellucid.show.view import on_image_grid

METHODS = ["saliency", "input_x_gradient", "integrated_gradients(steps=4)"]


def stem(image):
    return image.replace("/", "_")


@pytest.fixture(scope="module")
def two(study):
    return study.chosen[:2]


@pytest.fixture(scope="module")
def expected(study, two):
    x = study.images.tensor(two)
    return {method: on_image_grid(study.maps(method, two), x) for method in METHODS}


def test_an_unknown_format_image_or_method_is_one_sentence(study, tmp_path):
    with pytest.raises(BadStudy, match="there is no export 'excel'; there are ome-zarr"):
        study.export("excel")
    with pytest.raises(BadStudy, match="is not among the 16 images"):
        study.export("csv", tmp_path / "a", ids=["nothing"])
    with pytest.raises(BadStudy, match="has no maps of lime"):
        study.export("csv", tmp_path / "a", methods=["lime"])
    with pytest.raises(BadStudy, match="did you mean"):
        study.export("csv", tmp_path / "a", methods=["salency"])


def test_a_folder_that_holds_something_else_is_left_alone(study, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(BadStudy, match="holds something that is no export"):
        study.export("csv", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_missing_package_names_the_extra(study, tmp_path, monkeypatch):
    monkeypatch.setattr("pellucid.show.exports.registry.find_spec", lambda name: None)
    with pytest.raises(BadStudy, match=r"needs nibabel: pip install 'pellucid\[medical\]'"):
        study.export("nifti", tmp_path / "a")


def test_an_earlier_export_is_replaced_and_a_failed_one_leaves_it(study, two, tmp_path, monkeypatch):
    folder = study.export("csv", tmp_path / "a", ids=two)
    (folder / "stale.txt").write_text("old")
    assert study.export("csv", tmp_path / "a", ids=two) == folder
    assert not (folder / "stale.txt").exists()
    before = (folder / "Image.csv").read_bytes()

    def broken(content, where):
        (where / "half").write_text("half")
        raise OSError("disk full")

    monkeypatch.setitem(EXPORTS, "csv", type(EXPORTS["csv"])("csv", broken))
    with pytest.raises(OSError, match="disk full"):
        study.export("csv", folder)
    assert (folder / "Image.csv").read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_every_export_says_what_its_numbers_are(study, two, tmp_path):
    folder = study.export("csv", tmp_path / "a", ids=two, methods=["saliency"])
    told = json.loads((folder / "export.json").read_text())
    assert told["format"] == "csv"
    assert told["methods"] == ["saliency"]
    assert told["images"] == 2
    assert told["steps"] == ['pool_channels(how="sum")', "upsample"]
    assert "signed" in told["values"]
    assert len(told["model"]) == 64


def test_ome_zarr_read_by_zarr_alone(study, two, expected, tmp_path):
    folder = study.export("ome-zarr", tmp_path / "a", ids=two)
    for row, image in enumerate(two):
        maps = zarr.open_group(folder / f"{stem(image)}.maps.ome.zarr", mode="r")
        labels = [channel["label"] for channel in maps.attrs["ome"]["omero"]["channels"]]
        assert labels == METHODS
        for place, method in enumerate(labels):
            np.testing.assert_array_equal(maps["0"][place], expected[method][row].astype(np.float32))
        pixels = zarr.open_group(folder / f"{stem(image)}.ome.zarr", mode="r")
        np.testing.assert_array_equal(pixels["0"][...], study.images.tensor([image])[0].numpy())
        scale = pixels.attrs["ome"]["multiscales"][0]["datasets"][0]["coordinateTransformations"][0]["scale"]
        assert scale == [1.0, *study.images.record.spacing]
        truth = zarr.open_array(folder / f"{stem(image)}.ome.zarr" / "labels" / "truth" / "0", mode="r")
        np.testing.assert_array_equal(truth[...], study.images.mask("truth", [image])[0].numpy())
    assert float(maps["0"][1].min()) < 0 < float(maps["0"][1].max())


def test_ome_tiff_read_by_tifffile_and_bioio(study, two, expected, tmp_path):
    folder = study.export("ome-tiff", tmp_path / "a", ids=two[:1])
    with tifffile.TiffFile(folder / f"{stem(two[0])}.maps.ome.tif") as file:
        assert file.is_ome
        np.testing.assert_array_equal(file.asarray(), np.stack([expected[m][0] for m in METHODS]).astype(np.float32))
    bioio = pytest.importorskip("bioio_ome_tiff")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = bioio.Reader(folder / f"{stem(two[0])}.maps.ome.tif")
        assert reader.channel_names == METHODS
        assert study.images.record.spacing == (reader.physical_pixel_sizes.Y, reader.physical_pixel_sizes.X)
        masks = bioio.Reader(folder / f"{stem(two[0])}.masks.ome.tif")
        assert masks.channel_names == ["truth", "object"]
        np.testing.assert_array_equal(masks.get_image_data("YX", C=0), study.images.mask("truth", two[:1])[0].numpy())


def test_csv_holds_scores_shares_and_phenotypes_under_cellprofilers_names(study, two, expected, tmp_path):
    folder = study.export("csv", tmp_path / "a", ids=two)
    images = list(csv.DictReader((folder / "Image.csv").read_text().splitlines()))
    objects = list(csv.DictReader((folder / "Object.csv").read_text().splitlines()))
    assert [row["Metadata_Image"] for row in images] == list(two)
    scored = {(row["image"], row["metric"], row["method"]): row["value"] for row in study.scores.table.to_pylist()}
    for row in images:
        for metric in study.metrics:
            value = scored[row["Metadata_Image"], metric, "saliency"]
            told = row[f"Score_{metric}_saliency"]
            assert (told == "" and value is None) or float(told) == pytest.approx(value)
    mask = study.images.mask("truth", two[:1])[0].numpy() > 0
    values = np.abs(expected["input_x_gradient"][0])
    share = float(images[0]["Relevance_ShareOfMagnitude_truth_input_x_gradient"])
    assert share == pytest.approx(values[mask].sum() / values.sum(), rel=1e-5)
    first = objects[0]
    outline = study.images.mask("object", two[:1])[0].numpy() == int(first["ObjectNumber"])
    assert float(first["AreaShape_Area"]) == pytest.approx(outline.sum())
    assert float(first["Relevance_Sum_saliency"]) == pytest.approx(expected["saliency"][0][outline].sum(), rel=1e-5)


def test_anndata_has_images_as_rows_and_embeddings(study, tmp_path):
    anndata = pytest.importorskip("anndata")
    found = anndata.read_h5ad(study.export("anndata", tmp_path / "a") / "study.h5ad")
    assert list(found.obs_names) == list(study.chosen)
    assert found.obsm["X_embedding"].shape[0] == len(study.chosen)
    assert found.obsm["X_embedding"].std(0).max() > 0
    row = next(
        row for row in study.scores.table.to_pylist() if row["value"] is not None and row["method"] == "saliency"
    )
    told = found[row["image"], f"Score_{row['metric']}_saliency"].X[0, 0]
    assert told == pytest.approx(row["value"])
    assert found.var.loc["AreaShape_Area", "unit"] == "µm²"
    assert set(found.obs["Outcome"]) <= {"right", "wrong"}
    assert math.isfinite(found[:, "AreaShape_Area"].X.mean())


NAPARI = """
class Viewer:
    def __init__(self, title):
        assert "research use only" in title
    def __getattr__(self, name):
        def add(data, **settings):
            print(name, settings["name"], data.shape, settings["scale"], settings.get("contrast_limits"))
        return add

def run():
    pass
"""


def test_the_napari_script_shows_every_layer_without_pellucid(study, two, tmp_path):
    folder = study.export("napari", tmp_path / "a", ids=two)
    fake = tmp_path / "fake" / "napari"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text(NAPARI)
    (fake / "utils.py").write_text(
        "class Colormap:\n    def __init__(self, colours, name):\n        assert len(colours) == 5\n"
    )
    blocked = tmp_path / "fake" / "pellucid.py"
    blocked.write_text("raise ImportError('there is no pellucid on this machine')")
    command = [sys.executable, str(folder / "open_in_napari.py"), stem(two[1])]
    shown = subprocess.run(
        command, env={"PYTHONPATH": str(tmp_path / "fake")}, capture_output=True, text=True, check=True
    )
    lines = shown.stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["add_image"] * 3 + ["add_labels"] * 2 + ["add_image"] * 3
    assert all("(32, 32) [1.0, 1.0]" in line for line in lines)
    low, high = (float(part) for part in lines[-1].rsplit("(", 1)[1].rstrip(")").split(","))
    assert low == -high < 0
    wrong = subprocess.run([*command[:2], "none"], env={"PYTHONPATH": ""}, capture_output=True, text=True, check=False)
    assert "there is no image 'none' here" in wrong.stderr


def test_the_command_line_exports(study, two, tmp_path):
    from typer.testing import CliRunner

    from pellucid.cli import app

    out = tmp_path / "a"
    done = CliRunner().invoke(app, ["export", str(study.path), "--to", "csv", "--out", str(out), "--image", two[0]])
    assert done.exit_code == 0, done.output
    assert len((out / "Image.csv").read_text().splitlines()) == 2
    refused = CliRunner().invoke(app, ["export", str(study.path), "--to", "excel"])
    assert refused.exit_code == 2
