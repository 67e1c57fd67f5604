import pytest

from pellucid.errors import BadImage
from pellucid.images.phantoms import grains, with_experts


@pytest.fixture(scope="module")
def drawn():
    return with_experts(grains(12, defect="fusarium").images, 3)


def marked(images):
    return [image for image in images.ids if bool(images.mask("truth", [image])[0].any())]


def area(images, name):
    return [int(images.mask(name, [image])[0].sum()) for image in marked(images)]


def test_experts_differ_by_their_habit_about_the_exact_outline(drawn):
    tight, fair, wide, exact = (sum(area(drawn, name)) for name in ("expert_1", "expert_2", "expert_3", "truth"))
    assert tight < fair < wide
    assert tight < exact < wide
    assert fair == pytest.approx(exact, rel=0.1)


def test_nobody_marks_a_healthy_grain_and_everybody_the_same_way_twice(drawn):
    healthy = [image for image in drawn.ids if image not in marked(drawn)]
    assert healthy
    assert marked(drawn)
    assert all(not bool(drawn.mask(f"expert_{place}", healthy)[0].any()) for place in (1, 2, 3))
    again = with_experts(grains(12, defect="fusarium").images, 3)
    first = marked(drawn)[:1]
    assert (drawn.mask("expert_1", first)[0] == again.mask("expert_1", first)[0]).all()


def test_an_expert_needs_something_to_redraw():
    with pytest.raises(BadImage, match="cannot redraw 'lesion'"):
        with_experts(grains(2).images, 2, mask="lesion")
