"""``[slide]`` of a study: whole slides explained by the study's model, on its executor, resumed, planned and told."""

import re
import shutil
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import tifffile
import zarr

from pellucid.errors import BadStudy
from pellucid.study import Study, check_study, explain_slide
from pellucid.study.slide_map import SlideMap

TABLE = """
[slide]
path = "slides"
target = "b"
method = "input_x_gradient"
um_per_px = 0.5
tile = 32
halo = 8
shard = 64
batch_size = 2
"""
SIZES = {"one": (150, 190), "two": (70, 64)}


def painted(shape, seed):
    """Pink dots on grey glass: the left half holds them."""
    random = np.random.default_rng(seed)
    pixels = np.full((*shape, 3), 235, np.uint8)
    yy, xx = np.mgrid[: shape[0], : shape[1]]
    for y, x in zip(random.integers(8, shape[0] - 8, 60), random.integers(8, shape[1] // 2 - 8, 60), strict=True):
        pixels[(yy - y) ** 2 + (xx - x) ** 2 < 30] = (200, 70, 140)
    return pixels + random.integers(0, 8, pixels.shape, dtype=np.uint8)


def write_slides(folder):
    folder.mkdir()
    for seed, (name, shape) in enumerate(SIZES.items()):
        pixels = painted(shape, seed)
        with tifffile.TiffWriter(folder / f"{name}.tif") as file:
            options = {"tile": (64, 64), "photometric": "rgb", "resolutionunit": "CENTIMETER"}
            file.write(pixels, subifds=1, resolution=(20_000, 20_000), **options)
            file.write(pixels[::2, ::2], subfiletype=1, **options)


@pytest.fixture(scope="module")
def home(tmp_path_factory, new_bench):
    folder = new_bench(tmp_path_factory.mktemp("slides"))
    write_slides(folder / "slides")
    text = (
        (folder / "study.toml").read_text().replace("gradcam", "input_x_gradient").replace("images = 0", "images = 4")
    )
    (folder / "study.toml").write_text(re.sub(r"metrics = .*", 'metrics = ["sparseness"]', text) + TABLE)
    return folder


@pytest.fixture(scope="module")
def whole(home):
    """The unbroken study, in one process."""
    study = Study.create(home / "study.toml", home / "whole")
    study.run()
    return study


def maps(study):
    return {path.name: path for path in sorted((study.path / "slide").glob("*.map.ome.zarr"))}


def same(one, other):
    """Whether two studies hold the same maps, file by file."""
    first, second = maps(one), maps(other)
    assert list(first) == list(second)
    for name in first:
        files = {path.relative_to(first[name]): path.read_bytes() for path in first[name].rglob("*") if path.is_file()}
        found = {
            path.relative_to(second[name]): path.read_bytes() for path in second[name].rglob("*") if path.is_file()
        }
        assert files == found
    return True


def test_maps_are_those_of_explaining_each_slide_alone(whole, home, tmp_path):
    assert len(maps(whole)) == 2
    for name, path in maps(whole).items():
        slide = home / "slides" / f"{name.split('_tif')[0]}.tif"
        alone = explain_slide(
            whole.model, slide, "input_x_gradient", tmp_path / name, target="b", um_per_px=0.5, tile=32, halo=8, shard=64,
            batch_size=2, seed=3,
        )  # fmt: skip
        np.testing.assert_array_equal(SlideMap(path).read(), alone.read())
        np.testing.assert_array_equal(SlideMap(path).outputs, alone.outputs)


def test_the_tables_say_what_was_explained(whole):
    slides, tiles = whole.tables["slides"].to_pylist(), whole.tables["slide_tiles"].to_pylist()
    assert [(row["slide"], row["rows"], row["columns"]) for row in slides] == [
        ("one.tif", 150, 190),
        ("two.tif", 70, 64),
    ]
    assert [(row["tiles"], row["explained"]) for row in slides] == [(30, 30), (6, 6)]
    assert {row["um_per_px"] for row in slides} == {0.5}
    assert {row["tissue"] for row in slides} == {None}
    own = [row for row in tiles if row["slide"] == "one.tif"]
    assert sum(row["height"] * row["width"] for row in own) == 150 * 190
    assert slides[0]["highest"] == max(row["output"] for row in own)
    found = next(path for name, path in maps(whole).items() if name.startswith("one"))
    assert sum(row["relevance"] for row in own) == pytest.approx(
        float(SlideMap(found).read().sum(dtype=float)), rel=1e-5
    )


def test_two_processes_give_the_same_bytes(whole, home):
    study = Study.create(home / "study.toml", home / "pool")
    study.run(workers=2)
    assert same(study, whole)


def test_a_killed_study_goes_on_to_the_same_bytes(whole, home):
    """Killed by force at moments that no code chose; begun slides are gone on with, shard by shard."""
    out = home / "killed"
    command = [
        sys.executable,
        "-c",
        "import sys; from pellucid.cli import main; main()",
        "run",
        str(home / "study.toml"),
        "--out",
        str(out),
    ]
    begun = False
    for wait in (0.0, 0.02, 0.1):
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
            end = time.monotonic() + 60
            while (
                process.poll() is None and not list((out / "slide").glob("*.map.ome.zarr")) and time.monotonic() < end
            ):
                time.sleep(0.005)
            time.sleep(wait)
            begun = begun or process.poll() is None
            process.send_signal(signal.SIGKILL)
    assert begun, "the study was over before it could be killed"
    study = Study.create(home / "study.toml", out)
    study.run()
    assert same(study, whole)


def test_a_lost_shard_is_the_only_one_that_is_done_again(whole, home, monkeypatch):
    shutil.copytree(whole.path, home / "lost")
    study = Study(home / "lost")
    name, found = next(iter(maps(study).items()))
    (found / "0" / "c" / "0" / "1" / "2").unlink()
    (study.path / "slide" / name.replace(".map.ome.zarr", ".parquet")).unlink()
    from pellucid.study import slide_shard

    done, real = [], slide_shard.write_shard
    monkeypatch.setattr(slide_shard, "write_shard", lambda *given: (done.append(given[2]), real(*given)))
    study.run()
    assert done == [(64, 128)]
    assert same(study, whole)


def test_tiles_without_tissue_are_left_out_and_told(home, tmp_path):
    text = (home / "study.toml").read_text().replace('path = "slides"', f'path = "{home / "slides" / "one.tif"}"')
    recipe = "saturation(um_per_px=1.0, share=0.1, smooth=2.0, smallest=4.0)"
    (tmp_path / "data").symlink_to(home / "data")
    (tmp_path / "net.safetensors").symlink_to(home / "net.safetensors")
    (tmp_path / "study.toml").write_text(text.replace("batch_size = 2", f'batch_size = 2\ntissue = "{recipe}"'))
    study = Study.create(tmp_path / "study.toml", tmp_path / "out")
    study.run()
    (row,) = study.tables["slides"].to_pylist()
    assert 0 < row["explained"] < row["tiles"] == 30
    assert 0 < row["tissue"] < 0.7
    kept = [tile for tile in study.tables["slide_tiles"].to_pylist() if tile["output"] is not None]
    assert all(tile["tissue"] >= 0.1 for tile in kept)
    assert all(tile["x"] < 110 for tile in kept)
    found = SlideMap(next(iter(maps(study).values())))
    left_out = np.isnan(found.read())
    assert left_out[:, 140:].all()
    assert left_out.sum() + sum(tile["height"] * tile["width"] for tile in kept) == 150 * 190


def test_a_slide_that_cannot_be_read_costs_itself(whole, home):
    folder = home / "some"
    shutil.copytree(home / "slides", folder)
    (folder / "broken.tif").write_bytes(b"II*\0 no slide")
    text = (home / "study.toml").read_text().replace('path = "slides"', 'path = "some"')
    (home / "some.toml").write_text(text)
    study = Study.create(home / "some.toml", home / "out_some")
    failures = study.run().to_pylist()
    assert [(row["stage"], row["image"]) for row in failures if row["stage"] == "slide"] == [("slide", "broken.tif")]
    assert study.tables["slides"]["slide"].to_pylist() == ["one.tif", "two.tif"]
    (folder / "broken.tif").unlink()
    assert [row for row in study.run().to_pylist() if row["stage"] == "slide"] == []


def test_check_plans_the_slides_and_finds_what_would_fail(home):
    notes = check_study(home / "study.toml").notes
    assert "slide one.tif: 150 × 190 pixels of 0.5 µm, 30 tiles" in notes
    assert any(note.startswith("slides: 36 tiles in 11 tasks") for note in notes)
    text = (home / "study.toml").read_text()
    (home / "finer.toml").write_text(text.replace("um_per_px = 0.5", "um_per_px = 0.3"))
    assert any("no whole multiple" in problem for problem in check_study(home / "finer.toml").problems)
    for old, new, says in (
        ('target = "b"', 'target = "c"', "slide.target = 'c' is no class"),
        ('path = "slides"', 'path = "nowhere"', "no file or folder"),
    ):
        (home / "wrong.toml").write_text(text.replace(old, new))
        assert any(says in problem for problem in check_study(home / "wrong.toml").problems)
    (home / "wrong.toml").write_text(text.replace("shard = 64", "shard = 65"))
    with pytest.raises(BadStudy, match=r"slide\.shard = 65 is no whole number of tiles of 32"):
        check_study(home / "wrong.toml")


def test_other_choices_for_a_begun_map_are_refused(whole, home):
    shutil.copytree(whole.path, home / "other")
    text = (home / "study.toml").read_text().replace("halo = 8", "halo = 4")
    (home / "other.toml").write_text(text)
    with pytest.raises(BadStudy, match=r"begun with slide\.halo = 8 and the study file now says 4"):
        Study.create(home / "other.toml", home / "other")


def test_the_map_opens_as_an_image(whole):
    from pellucid.images import read_images

    found = maps(whole)[next(iter(maps(whole)))]
    assert zarr.open_group(found, mode="r").attrs["ome"]["multiscales"][0]["axes"][1]["name"] == "y"
    images = read_images(found)
    assert images.record.spacing == pytest.approx((0.5, 0.5))


def test_the_report_shows_each_slide_with_its_map_and_says_what_was_explained(whole):
    text = whole.report().read_text()
    section = text[text.index('<section id="slide">') :]
    section = section[: section.index("</section>")]
    assert "Whole slides: where the model looks" in section
    assert "150 × 190" in section
    assert "input_x_gradient" in section
    assert section.count("data:image/jpeg") == 2 * (2 + 6 + 6)
    assert "not measured" in section


def test_record_and_bundle_hold_the_slides(whole, home, tmp_path):
    from pellucid.study.bundle import bundle
    from pellucid.study.record import seal, verify

    shutil.copytree(whole.path, tmp_path / "study")
    shutil.copytree(home / "slides", tmp_path / "own")
    toml = tmp_path / "study" / "study.toml"
    toml.write_text(toml.read_text().replace(str(home / "slides"), str(tmp_path / "own")))
    seal(tmp_path / "study")
    assert verify(tmp_path / "study").problems == ()
    (tmp_path / "own" / "two.tif").write_bytes(b"another slide")
    assert verify(tmp_path / "study").problems == ("slides: two.tif: changed",)
    shutil.copy(home / "slides" / "two.tif", tmp_path / "own")
    assert any(path.name == "own" for path in bundle(tmp_path / "study"))
    shutil.rmtree(tmp_path / "own")
    seal(tmp_path / "study")
    assert verify(tmp_path / "study").problems == ()
    assert Study(tmp_path / "study").run().num_rows == whole.failures.num_rows


def test_dask_workers_give_the_same_bytes(whole, home, on_dask):
    study = on_dask(Study.create(home / "study.toml", home / "dask"))
    assert same(study, whole)


def test_slides_may_be_asked_for_when_the_study_is_done(whole, home):
    text = (home / "study.toml").read_text()
    (home / "later.toml").write_text(text[: text.index("[slide]")])
    first = Study.create(home / "later.toml", home / "later")
    first.run()
    assert not (first.path / "slide").exists()
    (home / "later.toml").write_text(text)
    study = Study.create(home / "later.toml", home / "later")
    study.run()
    assert same(study, whole)
    assert study.tables["slides"].num_rows == 2
