"""Can a map of places show what drives the model? Hand-made maps of known places are held against whole-object edits."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import avg_pool2d

from pellucid.interpretation import find_locality
from pellucid.interpretation.effects import Effect, Panel, edited_there, edited_whole, inpainted, places, usable
from pellucid.models import Model


def spot_map(x):
    """Where the image is brightest."""
    return avg_pool2d((x.mean(1, keepdim=True) - 0.8).clamp(min=0), 3, 1, 1)


def middle_map(x):
    """The middle of the image."""
    values = torch.zeros(len(x), 1, *x.shape[2:])
    values[..., 12:16, 12:16] = 1
    return values


def rim_map(x):
    """The edge of the object."""
    bright = torch.sigmoid(40 * (x.mean(1, keepdim=True) - 0.5))
    return bright * (1 - avg_pool2d(bright, 3, 1, 1, count_include_pad=False))


def corner_map(x):
    """The corner where tags are."""
    values = torch.zeros(len(x), 1, *x.shape[2:])
    values[..., :4, -4:] = 1
    return values


def noise_map(x):
    """Nothing."""
    return torch.rand((len(x), 1, *x.shape[2:]), generator=torch.Generator().manual_seed(0))


MAPS = {"spots": spot_map, "middle": middle_map, "rim": rim_map, "corner": corner_map, "noise": noise_map}


def judged(lab, name, *, methods=("spots", "middle", "noise"), count=24, seed=0, model=None, images=None, **more):
    images = images or lab.cells(lab.TRAITS[name], count=count, seed=seed)
    evidence = lab.evidence(
        model or lab.MODELS[name],
        images,
        methods=methods,
        maps=lambda method, ids: MAPS[method](images.tensor(ids)),
        **more,
    )
    (finding,), table = find_locality(evidence)
    return finding, table


def effects_of(table):
    return dict(zip(table["change"].to_pylist(), table["effect"].to_pylist(), strict=True))


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_no_map_can_show_the_size_of_an_object(lab, seed):
    finding, table = judged(lab, "object area", seed=seed, methods=tuple(MAPS))
    assert (finding.kind, finding.verdict) == ("not_localised", "supported")
    assert finding.statement.startswith("No local map can show what drives this model here")
    assert "resize_object" in finding.statement
    assert finding.low > 0.5
    effects = effects_of(table)
    assert max(effects, key=effects.get).startswith("resize_object")


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_a_spot_in_the_object_is_shown_by_the_map_of_spots(lab, seed):
    finding, table = judged(lab, "spot", seed=seed)
    assert (finding.kind, finding.verdict) == ("localised", "supported")
    assert "spots" in finding.statement
    assert effects_of(table)["spots"] > 1.5 > effects_of(table)["noise"]


def test_the_brightness_of_one_place_is_local_although_brightening_the_whole_object_moves_the_model(lab):
    finding, table = judged(lab, "object brightness")
    assert (finding.kind, finding.verdict) == ("localised", "supported")
    assert "brighten" in finding.statement
    assert "middle" in finding.statement
    effects = effects_of(table)
    there = next(value for name, value in effects.items() if name.startswith("middle, brighten"))
    assert there > 4 > 0.5 > effects["middle"]


def test_the_mean_brightness_of_the_whole_object_has_no_place(lab):
    def model(x):
        inside = torch.sigmoid(80 * (x.mean(1) - 0.5))
        return lab.two(60 * ((inside * x.mean(1)).sum((1, 2)) / inside.sum((1, 2)) - 0.7))

    finding, _ = judged(lab, "object brightness", model=model)
    assert finding.kind == "not_localised"
    assert "brighten" in finding.statement


def test_a_tag_in_the_background_is_local_too(lab):
    finding, _ = judged(lab, "corner tag", methods=("corner", "middle"))
    assert (finding.kind, finding.verdict) == ("localised", "supported")
    assert "corner" in finding.statement


def test_maps_that_miss_what_is_read_leave_the_question_open(lab):
    finding, _ = judged(lab, "corner tag", methods=("noise", "middle"))
    assert (finding.kind, finding.verdict) == ("localised", "undecided")
    assert finding.statement == "Whether a map of places can show what drives the model stays open on these images."


def test_images_of_one_channel_have_no_colour_to_change_and_are_tested_all_the_same(lab):
    images = lab.cells(lab.TRAITS["object area"], count=24)
    finding, table = judged(lab, "object area", images=images)
    assert finding.kind == "not_localised"
    assert "recolour" not in effects_of(table)
    coloured = lab.cells(lab.TRAITS["object area"], channels=3, count=12)
    assert "recolour" in effects_of(judged(lab, "object area", images=coloured)[1])


def test_a_very_sure_model_is_read_by_its_log_odds_and_not_by_probabilities_that_are_all_one(lab):
    sure = lambda x: 50 * lab.MODELS["object area"](x)  # noqa: E731
    finding, table = judged(lab, "object area", model=sure)
    plain = judged(lab, "object area")[1]
    assert finding.kind == "not_localised"
    for name, value in effects_of(plain).items():
        assert effects_of(table)[name] == pytest.approx(50 * value, rel=1e-3, abs=1e-3)


def test_calibrated_log_odds_are_those_of_the_softmax(lab):
    images = lab.cells(lab.TRAITS["spot"], count=10)
    evidence = lab.evidence(Model(lab.MODELS["spot"], temperature=2.0), images)
    classes = torch.tensor([0, 1] * 5)
    chance = torch.softmax(lab.MODELS["spot"](images.tensor()).double() / 2, 1).gather(1, classes[:, None])[:, 0]
    torch.testing.assert_close(evidence.log_odds(images.tensor(), classes), torch.logit(chance))


def test_edit_and_map_are_chosen_on_images_of_both_classes_and_judged_on_others(lab):
    """The model answers to size in one class and to the spot in the other; one half of each class decides."""

    def model(x):
        gate = torch.sigmoid(60 * (x[:, 0, -3:, :].mean((1, 2)) - 0.36))[:, None]
        return gate * lab.MODELS["object area"](x) + (1 - gate) * lab.MODELS["spot"](x)

    def traits(random, label):
        return {"tint": 0.25 * label, "radius": (7.0, 8.0)[label], "spot": 0.3 * (1 - label)}

    images = lab.cells(traits, count=28)
    finding, table = judged(lab, "spot", model=model, images=images)
    low, high = (table[column].to_pylist()[table["change"].to_pylist().index("spots")] for column in ("low", "high"))
    assert high - low > 0.5
    assert " on 14 images " in finding.evidence
    assert finding.low < effects_of(table)["spots"] < finding.high


def test_the_verdict_does_not_depend_on_the_order_of_images_or_methods(lab):
    images = lab.cells(lab.TRAITS["spot"], count=24)
    one = judged(lab, "spot", images=images)
    two = judged(lab, "spot", images=images.select(images.ids[::-1]), methods=("noise", "middle", "spots"))
    assert one[0] == two[0]
    assert effects_of(one[1]) == effects_of(two[1])


def refusal(lab, **more):
    finding, table = judged(lab, "spot", **more)
    assert (finding.kind, finding.verdict) == ("refused", "undecided")
    assert finding.statement == "Whether a map of places can show what drives this model was not tested."
    assert table.num_rows == 0
    return finding.evidence


def test_what_cannot_be_tested_is_refused_with_the_reason(lab):
    assert "9 explained images have an outline" in refusal(lab, count=9)
    assert "no method but controls has a map" in refusal(lab, methods=("random_map", "edge_map"))
    assert "0 explained images" in refusal(lab, ids=())


def test_controls_are_not_among_the_maps(lab, monkeypatch):
    monkeypatch.setitem(MAPS, "random_map", spot_map)
    _, table = judged(lab, "spot", methods=("random_map", "noise"))
    assert not any("random_map" in name for name in effects_of(table))


def test_maps_that_are_not_finite_are_left_out(lab, monkeypatch):
    def broken(x):
        values = spot_map(x)
        values[:, :, 0, 0] = torch.nan
        return values

    monkeypatch.setitem(MAPS, "broken", broken)
    finding, table = judged(lab, "spot", methods=("broken", "spots"))
    assert finding.kind == "localised"
    assert not any("broken" in name for name in effects_of(table))
    assert "0 images have both edits that fit the object and maps" in refusal(lab, methods=("broken",), count=12)


def test_tiny_objects_are_left_out_image_by_image(lab):
    images = lab.cells(lab.TRAITS["spot"], count=24)
    line = torch.zeros(lab.SIZE, lab.SIZE, dtype=torch.long)
    line[14, 8:20] = 1  # no slope across it, so that brightening has no null
    outlines = {name: images.masks["object"](name) if row > 3 else line for row, name in enumerate(images.ids)}
    mixed = replace(images, masks={"object": outlines.__getitem__})
    finding, _ = judged(lab, "spot", images=mixed)
    assert finding.kind == "localised"


def test_a_coarse_map_is_read_at_the_images_resolution(lab, monkeypatch):
    monkeypatch.setitem(MAPS, "coarse", lambda x: avg_pool2d(corner_map(x), 4))
    finding, table = judged(lab, "corner tag", methods=("coarse",))
    assert (finding.kind, finding.verdict) == ("localised", "supported")
    assert effects_of(table)["coarse"] > 2


def test_the_sign_of_a_map_does_not_hide_its_places(lab, monkeypatch):
    monkeypatch.setitem(MAPS, "against", lambda x: -spot_map(x))
    assert effects_of(judged(lab, "spot", methods=("against",))[1])["against"] == pytest.approx(
        effects_of(judged(lab, "spot", methods=("spots",))[1])["spots"], rel=0.3
    )


def test_one_group_gives_effects_without_intervals_and_no_verdict(lab):
    images = lab.cells(lab.TRAITS["spot"], groups=["s1"] * 24, count=24)
    finding, table = judged(lab, "spot", images=images)
    assert finding.verdict == "undecided"
    assert table["low"].null_count == table["high"].null_count == table.num_rows
    assert finding.to_dict()["low"] is None


def panel_of(lab, name, count=12):
    images = lab.cells(lab.TRAITS[name], count=count)
    evidence = lab.evidence(lab.MODELS[name], images, maps=lambda method, ids: MAPS[method](images.tensor(ids)))
    return Panel.of(evidence, evidence.cases(count))


def test_an_effect_is_how_much_further_a_change_moves_the_log_odds_than_its_null(lab):
    panel = panel_of(lab, "spot")

    def change(case, row):
        return None if row == 0 else (case.image + 0.1, case.image + 0.02)

    moved = panel.moved(change)
    assert np.isnan(moved[0])
    images = torch.stack([case.image for case in panel.cases])
    logits = [lab.MODELS["spot"](images + shift).double() for shift in (0, 0.1, 0.02)]
    own = panel.classes[:, None]
    odds = [(out.gather(1, own) - out.gather(1, 1 - own))[:, 0] for out in logits]
    expected = (odds[1] - odds[0]).abs() - (odds[2] - odds[0]).abs()
    np.testing.assert_allclose(moved[1:], expected[1:].numpy(), atol=1e-5)


def test_places_are_a_tenth_of_the_object_and_their_null_lies_in_it(lab):
    panel = panel_of(lab, "spot")
    for case, (chosen, clump) in zip(panel.cases, places(panel, "spots"), strict=True):
        count = round(0.1 * int(case.outline.sum()))
        assert int(chosen.sum()) == int(clump.sum()) == count
        assert bool((clump <= case.outline).all())


def test_changes_at_places_touch_nothing_else_and_take_over_the_very_same_edit(lab):
    panel = panel_of(lab, "object brightness")
    holes = places(panel, "middle")
    everywhere = [(case.outline, ~case.outline) for case in panel.cases]
    whole = edited_there(panel, "middle", everywhere, "brighten(amount=0.15)").moved
    edit = edited_whole(panel, "brighten(amount=0.15)").moved
    np.testing.assert_allclose(whole, edit, rtol=0.15)
    nowhere = [(torch.zeros_like(case.outline), torch.zeros_like(case.outline)) for case in panel.cases]
    assert not edited_there(panel, "middle", nowhere, "brighten(amount=0.15)").moved.any()
    assert (inpainted(panel, "middle", holes).moved < 1).all()


def test_changes_that_fit_few_images_are_dropped_and_the_rest_keep_common_images():
    full, half, rare = (
        Effect(name, "edit", name, np.array(moved))
        for name, moved in (
            ("full", [1.0, 2, 3, 4]),
            ("half", [1.0, np.nan, 3, np.nan]),
            ("rare", [np.nan, np.nan, np.nan, 1]),
        )
    )
    kept, rows = usable([full, half, rare])
    assert [effect.name for effect in kept] == ["full", "half"]
    assert rows.tolist() == [0, 2]
    assert usable([rare])[0] == []
