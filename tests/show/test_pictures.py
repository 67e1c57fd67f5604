"""Colours, planes, outlines and scale bars: what a picture says is what the numbers say."""

import base64
import io

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pellucid.errors import ShapeError
from pellucid.images import ImageRecord
from pellucid.show.colour import DIVERGING, ZERO, full_colour, signed_bytes
from pellucid.show.picture import address, line_path, outline_path, reduced, rgb, scale_bar
from pellucid.show.view import View, on_image_grid, strongest_view


@given(st.lists(st.floats(-10, 10), min_size=1, max_size=30), st.floats(0.1, 10))
def test_bytes_keep_sign_and_size_to_half_a_step(values: list[float], scale: float) -> None:
    array = np.array(values)
    back = (signed_bytes(array, scale).astype(float) - ZERO) / 127 * scale
    assert np.abs(back - array.clip(-scale, scale)).max() <= scale / 254 + 1e-9


def test_negated_values_mirror_around_zero() -> None:
    values = np.linspace(-2, 2, 41)
    assert (signed_bytes(values, 1.5).astype(int) + signed_bytes(-values, 1.5) == 2 * ZERO).all()


def test_a_map_of_nothing_is_all_zero() -> None:
    assert full_colour(np.zeros((4, 4))) == 0
    assert (signed_bytes(np.zeros((4, 4)), 0.0) == ZERO).all()


def test_a_map_of_few_values_takes_its_largest() -> None:
    values = np.zeros(1000)
    values[3] = -7
    assert full_colour(values) == 7


def test_both_sides_of_the_palette_are_alike_in_lightness() -> None:
    light = [0.2126 * red + 0.7152 * green + 0.0722 * blue for red, green, blue in DIVERGING]
    assert abs(light[0] - light[4]) < 40
    assert abs(light[1] - light[3]) < 40
    assert light[2] == pytest.approx(255)


def test_an_address_decodes_to_the_same_bytes() -> None:
    grey = np.arange(256, dtype=np.uint8).reshape(16, 16)
    kind, data = address(grey).split(",")
    assert kind == "data:image/png;base64"
    assert (np.asarray(Image.open(io.BytesIO(base64.b64decode(data)))) == grey).all()


def test_reducing_keeps_the_mean_and_never_the_size_over_the_edge() -> None:
    plane = np.random.default_rng(0).standard_normal((60, 90))
    small = reduced(plane, 30)
    assert small.shape == (20, 30)
    assert small.mean() == pytest.approx(plane.mean())
    assert reduced(plane, 200) is plane


def test_one_channel_is_grey_three_are_colours_and_others_add_up() -> None:
    plane = torch.rand(3, 5, 4)
    assert (rgb(plane, (0, 1)) == (255 * plane.permute(1, 2, 0)).round().byte().numpy()).all()
    assert (rgb(plane[:1], (0, 1))[..., 0] == rgb(plane[:1], (0, 1))[..., 2]).all()
    only_second = torch.zeros(5, 2, 2)
    only_second[1] = 1
    assert (rgb(only_second, (0, 1)) == rgb(only_second, (0, 1))[0, 0]).all()
    assert rgb(only_second, (0, 1))[0, 0].argmax() == 1
    assert (rgb(100 + 50 * plane, (100, 150)) == rgb(plane, (0, 1))).all()


def test_the_outline_of_a_square_runs_along_its_pixels() -> None:
    mask = torch.zeros(10, 12)
    mask[2:5, 3:8] = 1
    path = outline_path(mask)
    assert path.count("M") == 1
    points = np.array([[float(number) for number in point.split()] for point in path[1:-1].split("L")])
    assert points[:, 0].min() == pytest.approx(3, abs=0.05)
    assert points[:, 0].max() == pytest.approx(8, abs=0.05)
    assert points[:, 1].min() == pytest.approx(2, abs=0.05)
    assert points[:, 1].max() == pytest.approx(5, abs=0.05)


def test_a_mask_that_touches_the_rim_is_closed_and_an_empty_one_has_no_outline() -> None:
    assert outline_path(torch.ones(4, 4)).count("Z") == 1
    assert outline_path(torch.zeros(4, 4)) == ""


def test_a_line_is_drawn_from_low_to_high() -> None:
    assert line_path(np.array([0.0, 1.0]), 0, 1) == "M0.5 100.0L1.5 0.0"


def test_the_bar_is_round_and_as_long_as_it_says() -> None:
    record = ImageRecord("CYX", ("a",), spacing=(0.5, 0.25))
    bar = scale_bar(record, 200)
    assert bar.label == "10 µm"
    assert bar.share * 200 * 0.25 == pytest.approx(10)


@pytest.mark.parametrize("spacing", [None, (float("nan"), float("nan"))])
def test_the_bar_counts_pixels_where_the_size_is_unknown(spacing: tuple[float, float] | None) -> None:
    bar = scale_bar(ImageRecord("CYX", ("a",), spacing=spacing), 64)
    assert bar.label == "20 px"
    assert bar.share == pytest.approx(20 / 64)


def test_maps_of_a_layer_come_to_the_grid_of_the_image_and_channels_add_up() -> None:
    values = torch.ones(2, 3, 4, 4)
    shown = on_image_grid(values, torch.zeros(2, 1, 16, 16))
    assert shown.shape == (2, 16, 16)
    assert shown == pytest.approx(3)


def test_tokens_have_no_place_on_an_image() -> None:
    with pytest.raises(ShapeError, match=r"\(2, 3, 7\) have no place on images of shape \(2, 1, 8, 8\)"):
        on_image_grid(torch.zeros(2, 3, 7), torch.zeros(2, 1, 8, 8))


def test_the_slice_with_most_relevance_is_shown_every_method_counting_alike() -> None:
    loud, quiet = np.zeros((5, 4, 4)), np.zeros((5, 4, 4))
    loud[1], loud[3] = 600, 400
    quiet[3] = -0.001
    view = strongest_view([loud, quiet], "ZYX")
    assert view.index == (3,)
    assert "Z = 4 of 5" in view.note
    volume = torch.arange(5.0).view(1, 5, 1, 1).expand(2, 5, 4, 4)
    assert (view.plane(volume) == 3).all()
    assert view.plane(volume).shape == (2, 4, 4)


def test_a_plane_needs_no_choice() -> None:
    image = torch.rand(3, 4, 4)
    assert strongest_view([np.ones((4, 4))], "YX") == View()
    assert View().plane(image) is image


def test_time_and_depth_are_chosen_together() -> None:
    values = np.zeros((2, 3, 4, 4))
    values[1, 2] = 1
    view = strongest_view([values], "TZYX")
    assert view.index == (1, 2)
    assert view.plane(torch.from_numpy(values)).sum() == 16
