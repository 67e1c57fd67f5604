"""Recipes print and parse; tensors among their settings print as digests."""

from dataclasses import dataclass

import numpy as np
import pytest
import torch
from torch import Tensor

import pellucid
from pellucid.attribution.perturbation import ablation
from pellucid.errors import BadRecipe
from pellucid.recipes import Recipe


@dataclass(frozen=True, kw_only=True, repr=False)
class holding(Recipe):
    """Holds a tensor."""

    values: Tensor | None = None
    steps: int = 3


def test_a_refusal_names_a_tensor_by_its_digest_and_not_by_its_numbers() -> None:
    with pytest.raises(BadRecipe) as refused:
        holding(steps=torch.rand(64, 64))  # type: ignore[arg-type]
    said = str(refused.value)
    assert "steps=tensor((64, 64), sha256:" in said
    assert len(said) < 200
    with pytest.raises(BadRecipe, match=r"steps=tensor\(\(3,\), sha256:[0-9a-f]{16}\)"):
        holding(steps=np.arange(3))  # type: ignore[arg-type]


def test_a_value_that_holds_a_tensor_prints_in_a_line() -> None:
    region = pellucid.targets.Region(1, mask=torch.zeros(64, 64, dtype=torch.bool))
    assert "mask=tensor((64, 64), sha256:" in str(region)
    assert "\n" not in str(region)


def test_definitions_tell_large_tensors_apart() -> None:
    one, two = torch.zeros(200, 200), torch.zeros(200, 200)
    two[100, 100] = 1
    assert holding(values=one).definition == holding(values=one.clone()).definition
    assert holding(values=one).definition != holding(values=two).definition


def test_labels_still_print_as_the_text_that_names_them() -> None:
    assert "labels(sha256:" in str(ablation(segments=torch.eye(8).long()))
