"""What other programs measured comes to the image it belongs to."""

import numpy as np
import pytest
from PIL import Image

from pellucid.errors import BadImage
from pellucid.images import joined, read_images, read_objects, read_obs
from pellucid.images.bio import read_bio
from pellucid.images.reader import Wanted


@pytest.fixture
def wells(tmp_path):
    (tmp_path / "w").mkdir()
    for name in ("A1.png", "A2.png", "B1.png"):
        Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "w" / name)
    (tmp_path / "Image.csv").write_text(
        "ImageNumber,FileName_DNA,Metadata_Well\n1,A1.png,A01\n2,A2.png,A02\n3,other.png,C03\n"
    )
    (tmp_path / "Nuclei.csv").write_text(
        "ImageNumber,ObjectNumber,AreaShape_Area,Metadata_Well\n1,1,10,A01\n1,2,30,A01\n2,1,7,A02\n3,1,99,C03\n"
    )
    return read_images(tmp_path / "w")


def test_objects_of_cellprofiler_know_their_image_and_others_are_left_out(tmp_path, wells):
    table = read_objects(tmp_path / "Nuclei.csv", wells, image_table=tmp_path / "Image.csv")
    assert table.column_names == ["image", "ImageNumber", "ObjectNumber", "AreaShape_Area", "Metadata_Well"]
    assert table["image"].to_pylist() == ["A1.png", "A1.png", "A2.png"]
    assert table["AreaShape_Area"].to_pylist() == [10, 30, 7]


def test_objects_join_as_a_summary_an_image(tmp_path, wells):
    table = read_objects(tmp_path / "Nuclei.csv", wells, image_table=tmp_path / "Image.csv")
    with pytest.raises(BadImage, match=r"A1\.png has several rows"):
        joined(wells, table)
    with_means = joined(wells, table, summary="mean")
    assert with_means.column("AreaShape_Area") == [20.0, 7.0, None]
    assert with_means.column("objects") == [2, 1, None]
    with pytest.raises(BadImage, match="have a column 'AreaShape_Area' already"):
        joined(with_means, table, summary="median")


@pytest.mark.parametrize(
    ("name", "text", "reason"),
    [("Nuclei.csv", "a,b\n1,2\n", "no column 'ImageNumber'"), ("Image.csv", "ImageNumber,x\n1,2\n", "no column FileName_"),
     ("Image.csv", "ImageNumber,FileName_A,FileName_B\n1,A1.png,B1.png\n", r"made of A1\.png and B1\.png"),
     ("Image.csv", "ImageNumber,FileName_A\n1,z.png\n", "none of its 4 rows"), ("Nuclei.csv", "", "cannot be read")],
)  # fmt: skip
def test_tables_that_do_not_fit_are_refused(tmp_path, wells, name, text, reason):
    (tmp_path / name).write_text(text)
    with pytest.raises(BadImage, match=reason):
        read_objects(tmp_path / "Nuclei.csv", wells, image_table=tmp_path / "Image.csv")


def test_observations_of_anndata_join_by_a_column_or_the_index(tmp_path, wells):
    anndata = pytest.importorskip("anndata")
    import pandas as pd

    obs = pd.DataFrame({"file": ["B1.png", "A1.png", "none.png"], "age": [3.0, 5.0, 1.0]}, index=["A1.png", "x", "y"])
    anndata.AnnData(X=np.zeros((3, 2), np.float32), obs=obs).write_h5ad(tmp_path / "a.h5ad")
    table = read_obs(tmp_path / "a.h5ad", wells, on="file")
    assert table["image"].to_pylist() == ["B1.png", "A1.png"]
    assert joined(wells, table).column("age") == [5.0, None, 3.0]
    assert read_obs(tmp_path / "a.h5ad", wells, on="index")["age"].to_pylist() == [3.0]
    with pytest.raises(BadImage, match="obs has no column 'well'; it has file, age"):
        read_obs(tmp_path / "a.h5ad", wells, on="well")
    (tmp_path / "b.h5ad").write_bytes(b"nothing")
    with pytest.raises(BadImage, match="cannot be read"):
        read_obs(tmp_path / "b.h5ad", wells, on="file")


def test_a_format_without_its_plugin_is_refused_by_the_plugin_s_name(tmp_path):
    (tmp_path / "a.czi").write_bytes(b"ZISRAWFILE" + b"\0" * 600)
    with pytest.raises(BadImage, match=r"needs bioio's plugin bioio-czi; pip install bioio-czi"):
        read_images(tmp_path / "a.czi")


def test_bioio_gives_axes_sizes_channels_and_scenes(tmp_path, rng):
    import tifffile

    stored = rng.integers(0, 99, (2, 6, 5)).astype(np.uint8)
    metadata = {"axes": "CYX", "PhysicalSizeX": 0.5, "PhysicalSizeY": 0.25, "Channel": {"Name": ["DAPI", "actin"]}}
    tifffile.imwrite(tmp_path / "a.ome.tiff", stored, metadata=metadata, ome=True)
    raw = read_bio(tmp_path / "a.ome.tiff", Wanted())
    assert raw.axes == "TCZYX"
    np.testing.assert_array_equal(raw.array[0, :, 0], stored)
    assert (raw.spacing["X"], raw.spacing["Y"]) == (0.5, 0.25)
    assert raw.channels == ("DAPI", "actin")
    with pytest.raises(BadImage, match="no series 4"):
        read_bio(tmp_path / "a.ome.tiff", Wanted(series=4))
