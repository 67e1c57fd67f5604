import json

import numpy as np
import pytest
from skimage.draw import polygon2mask

from pellucid.errors import BadStudy
from pellucid.show.exports.qupath import outlines, write_qupath


def area(ring):
    x, y = np.array(ring).T
    return abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2


def test_outlines_close_lie_on_pixel_edges_and_have_holes():
    plane = np.zeros((12, 12), bool)
    plane[2:9, 3:10] = True
    plane[4:6, 5:8] = False
    ((outer, hole),) = outlines(plane)
    assert outer[0] == outer[-1]
    assert hole[0] == hole[-1]
    x, y = np.array(outer).T
    assert (x.min(), x.max(), y.min(), y.max()) == (3, 10, 2, 9)
    # the corners are cut by half a pixel's triangle
    assert area(outer) == pytest.approx(49, abs=1)
    assert area(hole) == pytest.approx(6, abs=1)


def test_outlines_drawn_again_give_the_region():
    plane = np.zeros((20, 20), bool)
    plane[0:5, 0:7] = True
    plane[10:14, 12:20] = True
    drawn = np.zeros_like(plane)
    for polygon in outlines(plane):
        drawn |= polygon2mask((20, 20), np.array(polygon[0])[:, ::-1] - 0.5)
    assert np.array_equal(drawn, plane)


def test_regions_carry_their_measurements(imagine, tmp_path):
    content, _, values, mask = imagine((16, 20), "YX", spacing=(0.5, 0.5))
    write_qupath(content, tmp_path)
    told = json.loads((tmp_path / "one.png.geojson").read_text())
    assert told["type"] == "FeatureCollection"
    objects = {feature["properties"]["name"]: feature for feature in told["features"]}
    assert set(objects) == {"saliency: for", "saliency: against", "cell"}
    cell = objects["cell"]["properties"]
    assert cell["objectType"] == "detection"
    assert cell["measurements"]["Relevance sum: saliency"] == pytest.approx(values[mask == 3].sum(), rel=1e-5)
    assert cell["measurements"]["Area µm^2"] == pytest.approx((mask == 3).sum() / 4)
    strong = objects["saliency: for"]["properties"]["measurements"]
    top = np.sort(values.ravel())[-32:]
    assert strong["Area px^2"] == 32
    assert strong["Relevance sum"] == pytest.approx(top.sum(), rel=1e-5)
    assert objects["saliency: against"]["properties"]["measurements"]["Relevance sum"] < 0
    for feature in told["features"]:
        assert feature["geometry"]["plane"] == {"c": -1, "z": 0, "t": 0}
        for polygon in feature["geometry"]["coordinates"]:
            assert all(ring[0] == ring[-1] for ring in polygon)


def test_volumes_give_one_object_a_plane(imagine, tmp_path):
    content, _, _, mask = imagine((8, 16, 20), "ZYX")
    write_qupath(content, tmp_path)
    features = json.loads((tmp_path / "one.png.geojson").read_text())["features"]
    planes = {feature["geometry"]["plane"]["z"] for feature in features if feature["properties"]["name"] == "cell"}
    assert planes == set(np.flatnonzero(mask.any((1, 2))).tolist())


def test_lines_have_no_outlines(imagine, tmp_path):
    with pytest.raises(BadStudy, match="these images are X; export to csv"):
        write_qupath(imagine((9,), "X")[0], tmp_path)
