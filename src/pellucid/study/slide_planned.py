"""What the slides of a study are going to take, from what one tile took."""

import time
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pellucid.attribution import explain
from pellucid.attribution.estimate import duration
from pellucid.images.slide import Slide
from pellucid.images.tissue import TISSUE
from pellucid.study.planned import size_told
from pellucid.study.setup import Setup
from pellucid.study.slide_config import SlideConfig
from pellucid.study.slide_map import SlideChoices, tissue_shares
from pellucid.study.slides import asked_slides, opened_slide, slide_choices

__all__ = ["planned_slides"]

_FLOAT = 4
_LEVELS = 4 / 3
"""Values of a pyramid for one of its finest level."""


@dataclass(frozen=True)
class _Cut:
    """What is to be done for one slide: which tiles, and how many values."""

    told: str
    tiles: int
    tasks: int
    pixels: int
    seconds: float | None


def planned_slides(setup: Setup) -> tuple[str, ...]:
    """Open every slide of ``[slide]``, explain one tile of the first, and say what all will take, line by line.

    Parameters
    ----------
    setup
        The study; without ``[slide]`` there is nothing to say.

    Raises
    ------
    PellucidError
        When a slide cannot be opened at the pixel size asked for, or the tile cannot be explained.
    """
    asked = setup.config.slide
    if asked is None:
        return ()
    cuts: list[_Cut] = []
    for slide in asked_slides(asked):
        with opened_slide(asked, slide) as held:
            cuts.append(_cut(setup, asked, slide.name, held, timed=not cuts))
    tiles, tasks = sum(cut.tiles for cut in cuts), sum(cut.tasks for cut in cuts)
    took = tiles * (cuts[0].seconds or 0.0)
    room = size_told(_FLOAT * _LEVELS * sum(cut.pixels for cut in cuts))
    return (
        *(cut.told for cut in cuts),
        f"slides: {tiles:,} tiles in {tasks:,} tasks, {duration(took)} in one process, as one tile took; at most {room} of maps",
    )


def _cut(setup: Setup, asked: SlideConfig, name: str, slide: Slide, *, timed: bool) -> _Cut:
    choices = slide_choices(setup, asked, slide)
    grid = choices.grid
    shares = tissue_shares(choices, slide) if choices.tissue else np.ones(grid.tiles, np.float32)
    kept = int((shares >= (TISSUE.parse(choices.tissue).share if choices.tissue else 0)).sum())
    size = "pixels of unknown size" if slide.um_per_px is None else f"pixels of {slide.um_per_px:g} µm"
    told = f", {kept:,} of them with tissue" if choices.tissue else ""
    return _Cut(
        f"slide {name}: {grid.shape[0]:,} × {grid.shape[1]:,} {size}, {shares.size:,} tiles{told}",
        kept,
        len(grid.corners()),
        grid.shape[0] * grid.shape[1],
        _seconds(setup, asked, choices, slide, shares) if timed else None,
    )


def _seconds(
    setup: Setup, asked: SlideConfig, choices: SlideChoices, slide: Slide, shares: NDArray[np.float32]
) -> float:
    """Explain the tile with most tissue, and return how long it took."""
    row, column = np.unravel_index(int(shares.argmax()), shares.shape)
    x = torch.stack([slide.read(*choices.grid.at(int(row), int(column)).window)])
    began = time.perf_counter()
    explain(setup.model, x, choices.method, setup.named_target(asked.target, "slide.target"))
    return time.perf_counter() - began
