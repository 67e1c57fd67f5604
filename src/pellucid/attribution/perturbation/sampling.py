"""Shapley and Owen values as means over the orders in which segments appear."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, ClassVar, cast

import torch
from pydantic import Field
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from pellucid.attribution.fills import Fill
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.perturbation.game import Game, Maps, affordable, padded
from pellucid.attribution.perturbation.grids import Grid, cells_along
from pellucid.attribution.perturbation.orders import Lattice, Orders, coalitions_in_all, drawn_orders, lattice
from pellucid.attribution.perturbation.render import Coalitions
from pellucid.attribution.perturbation.segmenters import Segmentation, Segments, players, shared_space
from pellucid.attribution.perturbation.stopping import Rule, Tally, Tolerance, in_rounds
from pellucid.errors import ShapeError
from pellucid.models import Inputs

__all__ = ["owen", "shapley_sampling"]

GROUPS = 9
"""About how many groups of segments there are by default."""

Samples = Annotated[int, Field(ge=4)]


def _forwards(groups: Tensor, pairs: int) -> int:
    """Return the forwards for so many pairs of orders, or for every coalition where that is less."""
    return min(coalitions_in_all(groups), 2 * pairs * (len(groups) - 1))


@dataclass(eq=False)
class _Row:
    """One row's orders so far, and how many pairs of them come next."""

    number: int
    segmentation: Segmentation
    groups: Tensor
    ends: tuple[Tensor, Tensor]
    generator: torch.Generator
    rule: Rule
    pending: int
    tally: Tally | None = None
    exact: bool = False

    @property
    def difference(self) -> Tensor:
        return self.ends[1] - self.ends[0]

    @property
    def forwards(self) -> int:
        return _forwards(self.groups, self.pending)

    def plan(self) -> Coalitions:
        self.exact = self.forwards == coalitions_in_all(self.groups)
        drawn = lattice(self.groups) if self.exact else drawn_orders(self.groups, self.pending, self.generator)
        return Coalitions(self.number, self.segmentation, drawn)

    def learn(self, plan: Coalitions, answers: Tensor) -> None:
        added = cast("Orders | Lattice", plan.design).contributions(answers, *self.ends)
        fresh = self.tally is None or self.exact
        self.tally = Tally.of(added) if fresh else cast("Tally", self.tally).with_more(added)
        self.pending = self.rule.more(self.tally.count, self.tally.error, self.difference)


def _averaged(method: "shapley_sampling | owen", game: Game, groups: Sequence[Tensor]) -> Attribution:
    """Draw orders for every row until it has enough."""
    rule, call, maps = Rule(method.samples // 2, method.tolerance), game.call, Maps(game.call, error=True)
    most = max(_forwards(own, rule.most) for own in groups)
    affordable(method, call, most, "use fewer samples or segments")
    empty = game.empty()
    ends = zip(empty, maps.outputs, strict=True)
    fixed = zip(range(len(call)), game.segmentations, groups, ends, call.generators(), strict=True)
    rows = [_Row(*row, rule, rule.first()) for row in fixed]
    in_rounds(call, game.fills, rows, "adding segments")
    return _collected(game, maps, empty, rows, rule)


def _collected(game: Game, maps: Maps, empty: Tensor, rows: list[_Row], rule: Rule) -> Attribution:
    tallies = [cast("Tally", row.tally) for row in rows]
    for row, tally in zip(rows, tallies, strict=True):
        maps.put(row.number, row.segmentation.spread(tally.mean), row.segmentation.spread(tally.error))
    details = {
        **game.details(maps, [tally.mean for tally in tallies]),
        "margin": padded(maps, [tally.margin for tally in tallies]),
        "orders": torch.tensor(
            [math.inf if row.exact else 2.0 * tally.count for row, tally in zip(rows, tallies, strict=True)]
        ),
    }
    short = torch.stack(
        [rule.excess(tally.error, row.difference) > 1 for row, tally in zip(rows, tallies, strict=True)]
    )
    missed = maps.doubts(short, lambda count: rule.missed(count, len(rows), f"{2 * rule.most} orders"))
    return maps.attribution(reference_output=maps.single(empty), warnings=(*game.warnings, *missed), details=details)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class shapley_sampling(Method):
    """The fair share of each segment in f(x) − f(fill): what it adds, averaged over random orders of appearance.

    Orders are drawn in opposite pairs. Values sum to f(x) − f(fill) in every case. `error` is their standard error
    with the pair as its unit, ``details["margin"]`` half the width of the 95 % interval (Student's t) of each segment,
    rather too narrow below 100 samples, and ``details["orders"]`` the orders drawn. Where seeing every coalition costs no more forwards than the orders
    would, the values are exact, as after all orders: the error is 0 and ``details["orders"]`` infinite.

    Attributes
    ----------
    segments
        A count of superpixels; a name such as ``"slic(50)"``, ``"watershed(50)"``, ``"grid(6, 6)"``, ``"pixels"``,
        ``"channels"`` or ``"channels(slic(50))"`` (all: `segment`); or integer labels ``(*S)`` or ``(N, *S)``, in which
        every value is a segment, 0 too, unless they come as ``Labels(labels, background=0)``.
    samples
        Orders at most; an odd one is dropped.
    fill
        What stands in for absent segments.
    tolerance
        Stop a row when its largest standard error is below this part of |f(x) − f(fill)|; None draws all samples.

    References
    ----------
    Castro et al. 2009, Polynomial calculation of the Shapley value based on sampling; Mitchell et al. 2022, Sampling
    permutations for Shapley value estimation.
    """

    segments: Segments = 50
    samples: Samples = 100
    fill: Fill = "zero"
    tolerance: Tolerance | None = None

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="What does each region add to the score, on average over the orders in which regions appear?",
        complete="exact",
        cost="samples x (segments - 1) forwards, or 2^segments - 2 where fewer",
        reference="Castro et al. 2009, Polynomial calculation of the Shapley value based on sampling",
        warning="a contribution that only rare orders show can be missed with an error of 0; the fill shapes the values",
        mechanism="game theory",
    )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the forwards of all orders, or of all coalitions where fewer."""
        return 1 + _forwards(torch.zeros(players(self.segments, inputs), dtype=torch.long), self.samples // 2)

    def attribute(self, call: Call) -> Attribution:
        """Average what every segment of every row adds."""
        game = Game.of(call, self.segments, self.fill)
        groups = [torch.zeros(segmentation.players, dtype=torch.long) for segmentation in game.segmentations]
        return _averaged(self, game, groups)


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class owen(Method):
    """The fair share of each segment when neighbouring segments act together: the Owen value of a two-level tree.

    Segments belong to the cell of a coarse regular grid in which their centre lies, and only orders in which a cell's
    segments follow each other count. So parts of one structure are weighed against each other, and far fewer torn
    images are sent. Values sum to f(x) − f(fill), in a cell to its Shapley value as one player. Errors and details are
    those of `shapley_sampling`; ``details["groups"]`` holds the cell of each segment, −1 beyond a
    row's last one.

    Attributes
    ----------
    segments
        A count of superpixels; a name such as ``"slic(50)"``, ``"watershed(50)"``, ``"grid(6, 6)"`` or ``"pixels"``
        (all: `segment`); or integer labels ``(*S)`` or ``(N, *S)``, in which every value is a segment, 0 too, unless they
        come as ``Labels(labels, background=0)``.
    groups
        Cells of the coarse grid, one number or one an axis (Y, X); default about nine near-cubic ones.
    samples
        Orders at most; an odd one is dropped.
    fill
        What stands in for absent segments.
    tolerance
        Stop a row when its largest standard error is below this part of |f(x) − f(fill)|; None draws all samples.

    References
    ----------
    Owen 1977, Values of games with a priori unions.
    """

    segments: Segments = 50
    groups: Grid = None
    samples: Samples = 100
    fill: Fill = "zero"
    tolerance: Tolerance | None = None

    shares_forwards: ClassVar[bool] = True
    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="perturbation",
        question="What does each region add to the score when neighbouring regions appear together?",
        complete="exact",
        cost="samples x (segments - 1) forwards, or every coalition of the tree where fewer",
        reference="Owen 1977, Values of games with a priori unions",
        warning="the coarse groups shape the values: another tree shares joint effects differently",
        mechanism="game theory",
    )

    def planned_forwards(self, inputs: Inputs) -> int:
        """Return the forwards of all orders."""
        return 1 + 2 * (self.samples // 2) * (players(self.segments, inputs) - 1)

    def attribute(self, call: Call) -> Attribution:
        """Average what every segment of every row adds in orders that keep groups together."""
        space = shared_space(call.inputs, self.name)
        cells = cells_along(str(self), self.groups, space, GROUPS)
        game = Game.of(call, self.segments, self.fill)
        cell = [_cell(segmentation, cells, space) for segmentation in game.segmentations]
        found = _averaged(self, game, [torch.unique(own, return_inverse=True)[1] for own in cell])
        groups = pad_sequence(cell, batch_first=True, padding_value=-1)
        return replace(found, details={**found.details, "groups": groups})


def _cell(segmentation: Segmentation, cells: tuple[int, ...], space: tuple[int, ...]) -> Tensor:
    """Return the cell ``(players,)`` in which each segment's centre lies."""
    if any(labels.shape[1:] != space for labels in segmentation.labels):
        raise ShapeError(
            f"owen groups segments by where they lie on the axes {space}, and channels lie everywhere; "
            'use shapley_sampling(segments="channels")'
        )
    cell = torch.zeros(segmentation.players, dtype=torch.long)
    for axis, (count, size) in enumerate(zip(cells, space, strict=True)):
        total, number = torch.zeros(2, segmentation.players, dtype=torch.float64)
        for labels in segmentation.labels:
            flat = labels.cpu().flatten().long()
            places = (torch.arange(size) + 0.5).view(-1, *[1] * (len(space) - axis - 1)).expand(labels.shape).flatten()
            total += torch.bincount(flat, places.double(), segmentation.players + 1)[: segmentation.players]
            number += torch.bincount(flat, minlength=segmentation.players + 1)[: segmentation.players]
        cell = cell * count + (total / number * count / size).floor().long().clamp(max=count - 1)
    return cell
