"""Is the task learnt again as asked, kept, resumed, and held against the explained net's maps?"""

from collections import Counter

import pyarrow.parquet as pq
import pytest
import torch

from pellucid.errors import BadStudy
from pellucid.models import split_images
from pellucid.study import Study, check_study, read_config
from pellucid.study.repeats import same_test, shuffled_labels

FIT = "[fit]\nepochs = 1\nwidth = 4\ndepth = 1\nbatch_size = 4\naugment = false\n[stability]\nseeds = 2\nshuffled = true\nimages = 3\n"


@pytest.fixture
def repeated(bench, changed):
    """A study file that trains on four images, explains two, and learns the task three times again."""
    labels = (bench / "data" / "labels.csv").read_text().splitlines()
    parts = ["train", "train", "train", "val", "val", "train", "test", "test"]
    rows = [labels[0]] + [row.replace(",test,", f",{part},") for row, part in zip(labels[1:], parts, strict=True)]
    (bench / "data" / "labels.csv").write_text("\n".join(_ungrouped(rows)) + "\n")
    changed(('[model]\nweights = "net.safetensors"\n', FIT), ('"gradcam"]', '"occlusion(window=8, stride=8)"]'),
            ("integrated_gradients(steps=3)", "occlusion(window=4, stride=4)"))  # fmt: skip
    return bench


def _ungrouped(rows):
    """Give every image its own group, so that parts may hold any of them."""
    cells = [row.split(",") for row in rows]
    place = cells[0].index("group")
    return [
        ",".join(row if number == 0 else [*row[:place], f"g{number}", *row[place + 1 :]])
        for number, row in enumerate(cells)
    ]


def test_nets_are_trained_compared_and_kept_and_nothing_is_done_twice(repeated):
    study = Study.create(repeated / "study.toml", repeated / "out")
    assert study.run().num_rows == 0
    nets = pq.read_table(study.path / "stability" / "nets.parquet").to_pylist()
    assert [(net["model"], net["shuffled"]) for net in nets] == [
        ("seed 4", False),
        ("seed 5", False),
        ("shuffled", True),
    ]
    weights = sorted(path.name for path in (study.path / "model").glob("*.safetensors"))
    assert weights == ["model.safetensors", "repeat_seed_4.safetensors", "repeat_seed_5.safetensors",
                       "repeat_shuffled.safetensors"]  # fmt: skip
    tables = {name: table.to_pylist() for name, table in study.tables.items()}
    assert {row["method"] for row in tables["stability"]} == set(study.methods) - {"random_map", "edge_map"}
    assert "shuffled" in {row["measure"] for row in tables["stability"]}
    (pair,) = tables["settings"]
    assert (pair["name"], pair["images"]) == ("occlusion", 2)
    before = {path: path.stat().st_mtime_ns for path in study.path.rglob("*.parquet") if "stability" in str(path)}
    Study(study.path).run()
    assert before == {path: path.stat().st_mtime_ns for path in before}


def test_a_study_killed_between_nets_and_shards_ends_as_if_it_had_not_been(repeated):
    whole = Study.create(repeated / "study.toml", repeated / "whole")
    whole.run()
    cut = Study.create(repeated / "study.toml", repeated / "cut")
    cut.run()
    for name in ("stability/nets.parquet", "stability/part-00000.parquet", "findings.json"):
        (cut.path / name).unlink()
    (cut.path / "model" / "repeat_seed_5.safetensors").unlink()
    (cut.path / "model" / "repeat_seed_5.checkpoint.pt").unlink()
    Study(cut.path).run()
    for name in (
        "stability/nets.parquet",
        "stability/part-00000.parquet",
        "interpretation/stability.parquet",
        "findings.json",
    ):
        assert (cut.path / name).read_bytes() == (whole.path / name).read_bytes(), name


def test_other_seeds_keep_the_test_images_and_shuffling_keeps_the_classes_of_every_part(repeated):
    images = Study.create(repeated / "study.toml", repeated / "out").images
    again = same_test(images, 3)
    parts, first = split_images(again, seed=9), split_images(images, seed=3)
    assert set(parts.test) == set(first.test)
    assert not set(parts.val) & set(first.test)
    dealt = shuffled_labels(again, 0)
    column = again.column(again.split_column)
    for part in ("train", "test"):
        before, after = (
            Counter(label for label, own in zip(one.label(), column, strict=True) if own == part)
            for one in (again, dealt)
        )
        assert before == after
    assert dealt.label() != again.label()
    assert torch.equal(dealt.tensor(), again.tensor())


def test_stability_needs_a_net_that_the_study_trains(changed):
    toml = changed(("[run]", "[stability]\nseeds = 1\n[run]"))
    with pytest.raises(BadStudy, match=r"\[stability\] trains the network again and needs \[fit\]"):
        read_config(toml)


def test_a_check_says_how_many_nets_there_will_be(repeated):
    assert any(
        "3 nets to be trained beside the explained one" in note for note in check_study(repeated / "study.toml").notes
    )


def test_a_flat_background_and_a_batch_are_checked_where_they_are_named(changed):
    toml = changed(('object = "object"', 'object = "object"\nflatten = "object"\nbatch = "group"'))
    images = Study.create(toml, toml.parent / "flat").images
    image, outline = images.tensor(images.ids[:1])[0], images.mask("object", images.ids[:1])[0]
    assert bool((image[:, outline == 0] == 0.5).all())
    wrong = changed(('batch = "group"', 'batch = "scanner"'))
    with pytest.raises(BadStudy, match=r"images\.batch = 'scanner' is no column"):
        Study.create(wrong, toml.parent / "other")
