"""Planted truth in one's own images: a place is edited, the model's answer is measured, maps must show the change there.

No annotation says what a model uses; an edit whose effect on the model was measured does. Methods, or settings of one,
are chosen on a random half of the images and judged on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.attribution import METHODS, Method, explain
from pellucid.attribution.scaling import resized
from pellucid.errors import CannotExplain, ShapeError
from pellucid.hashing import hash_seed
from pellucid.intervals import Interval, mean_interval
from pellucid.measure import EDITS, Edit
from pellucid.measure.clumps import clump
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EDITS_TRIED", "Calibration", "calibrate"]

EDITS_TRIED = ("brighten(amount=0.3)", "brighten(amount=-0.3)", "recolour", "blur_texture")
"""Edits of one place that are tried by default."""

_GRAIN = 4.0
LEAST = 10


@dataclass(frozen=True, eq=False)
class Calibration:
    """How well methods show a change that is known to have moved the model.

    Attributes
    ----------
    table
        One row an edited image and method: ``image``, ``group``, ``edit``, ``method``, ``effect`` (change of the model's
        score), ``area`` (share of the image that was edited), ``inside`` (share of the map's change that lies there),
        ``signed`` (what the map's change there adds up to, over all of its change, positive where it goes the way of the
        model's score: 1 where the map changes there alone and rightly, 0 for a map that knows nothing of the model,
        however well it shows that pixels changed), ``judged`` (whether the image judges, or chose).
    """

    table: pa.Table

    @property
    def chosen(self) -> str:
        """The method with the largest mean signed share on the images that choose."""
        return max(self._means(judged=False).items(), key=lambda item: item[1].value)[0]

    @property
    def judged(self) -> dict[str, Interval]:
        """The mean signed share by method on the images that did not choose, best first, with intervals by group."""
        return self._means(judged=True)

    def _means(self, *, judged: bool) -> dict[str, Interval]:
        rows = [row for row in self.table.to_pylist() if row["judged"] == judged]
        means = {}
        for method in dict.fromkeys(row["method"] for row in rows):
            own = [row for row in rows if row["method"] == method]
            means[method] = mean_interval(
                [row["signed"] for row in own], groups=[row["group"] for row in own], bounds=(-1.0, 1.0)
            )
        return dict(sorted(means.items(), key=lambda item: -item[1].value))

    def plot(self) -> "Figure":
        """Draw every method's signed share on the judging images; dashed: nought, that of a map that knows nothing of the model."""
        from pellucid.show import plot_calibration  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_calibration(self)


@dataclass(frozen=True)
class _Trial:
    """One edit of one place of one image, and how far it moved the model."""

    row: int
    edit: str
    image: Tensor
    support: Tensor
    effect: float = 0.0


def calibrate(
    model: Model,
    x: Tensor,
    outlines: Tensor,
    methods: Sequence[str | Method],
    *,
    edits: Sequence[str | Edit] = EDITS_TRIED,
    share: float = 0.1,
    least: float = 0.25,
    ids: Sequence[str] | None = None,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
) -> Calibration:
    """Judge methods by changes planted in one's own images.

    In every image each edit is made at one random place of the object. Edits that move the score of the called class by
    less than `least` of its spread over images are no truth, since the model did not answer, and are left out. Each
    method explains the image before and after; the change of its map should lie where the image was changed, and go the
    way of the score. Where alone would not do: a map of edges changes nowhere else either. Methods without a sign
    cannot do well.

    Parameters
    ----------
    model
        A classifier.
    x
        Images ``(N, C, *S)`` in their own units.
    outlines
        ``(N, *S)``, not 0 on the object.
    methods
        Texts or values, such as one method with several settings.
    edits
        Texts or values of `pellucid.measure.EDITS`.
    share
        Part of the object's area that is edited.
    least
        Effect that counts, in standard deviations of the score over the images.
    ids, groups
        Names and independent units (patient, plate) of the images; groups are never parted between the halves.
    seed, batch_size
        As everywhere.

    Returns
    -------
    Calibration
        One row an edited image and method.

    Raises
    ------
    ShapeError
        When the outlines do not fit the images.
    CannotExplain
        When the model answers to fewer than ten of the edits: then they plant no truth.
    """
    model = Model.of(model)
    if outlines.shape != (len(x), *x.shape[2:]):
        raise ShapeError(f"outlines of shape {tuple(outlines.shape)} do not fit images of shape {tuple(x.shape)}")
    names = [str(row) for row in range(len(x))] if ids is None else list(ids)
    told = names if groups is None else [str(group) for group in groups]
    planted = [_planted(EDITS.parse(edit), x, outlines, names, share, seed) for edit in edits]
    called, trials = _answered(model, x, [trial for each in planted for trial in each], least, batch_size)
    if len(trials) < LEAST:
        raise CannotExplain(
            f"the model answered to {len(trials)} of {sum(map(len, planted))} edits: too few to calibrate methods on; try "
            "other edits, a larger share or more images"
        )
    judging = _judging(told, seed)
    rows: list[dict[str, Any]] = []
    for method in (METHODS.parse(method) for method in methods):
        changes = _changes(model, x, called, trials, method, names, seed, batch_size)
        for trial, change in zip(trials, changes, strict=True):
            rows.append(
                {"image": names[trial.row], "group": told[trial.row], "edit": trial.edit, "method": str(method),
                 "effect": trial.effect, "area": float(trial.support.float().mean()), **_shares(change, trial),
                 "judged": told[trial.row] in judging}
            )  # fmt: skip
    return Calibration(pa.Table.from_pylist(rows))


def _planted(edit: Edit, x: Tensor, outlines: Tensor, names: Sequence[str], share: float, seed: int) -> list[_Trial]:
    trials = []
    for row, (image, outline) in enumerate(zip(x, outlines > 0, strict=True)):
        generator = torch.Generator().manual_seed(hash_seed(seed, f"calibrate {edit} {names[row]}"))
        count = max(1, round(share * int(outline.sum())))
        try:
            result = edit(image, clump(outline, count, generator, _GRAIN), generator=generator)
        except ShapeError:  # nothing of that kind fits this object
            continue
        if bool(result.support.any()):
            trials.append(_Trial(row, str(edit), result.image, result.support))
    return trials


def _answered(
    model: Model, x: Tensor, trials: Sequence[_Trial], least: float, batch_size: int | None
) -> tuple[list[int], list[_Trial]]:
    """Return the called classes, and the trials that moved the score of theirs, with the effect."""
    with Passes(model, batch_size=batch_size) as passes:
        before = passes.outputs(model.prepare(x)).cpu()
        if before.ndim != 2 or before.shape[1] < 2:
            raise CannotExplain(f"calibration needs a classifier with two outputs or more, not {tuple(before.shape)}")
        called = before.argmax(1)
        rows = torch.tensor([trial.row for trial in trials], dtype=torch.long)
        after = passes.outputs(model.prepare(torch.stack([trial.image for trial in trials]))).cpu()
    own = called[:, None]
    scores = before.gather(1, own)[:, 0]
    effects = (after.gather(1, own[rows])[:, 0] - scores[rows]).double()
    enough = least * float(before.std(0).mean())
    kept = [
        _Trial(trial.row, trial.edit, trial.image, trial.support, float(effect))
        for trial, effect in zip(trials, effects, strict=True)
        if abs(float(effect)) > enough
    ]
    return called.tolist(), kept


def _judging(groups: Sequence[str], seed: int) -> set[str]:
    units = sorted(set(groups))
    order = np.random.default_rng([seed, 0xCA1]).permutation(len(units))
    return {units[place] for place in order[1::2]}


def _changes(
    model: Model, x: Tensor, called: Sequence[int], trials: Sequence[_Trial], method: Method, names: Sequence[str],
    seed: int, batch_size: int | None,
) -> Tensor:  # fmt: skip
    """Return what each edit changes in the map, at the images' resolution, summed over channels: ``(T, *S)``."""
    rows = [trial.row for trial in trials]
    used = sorted(set(rows))
    before = _maps(
        model, x[used], [called[row] for row in used], method, [names[row] for row in used], seed, batch_size
    )
    edited = torch.stack([trial.image for trial in trials])
    after = _maps(model, edited, [called[row] for row in rows], method, [names[row] for row in rows], seed, batch_size)
    place = {row: at for at, row in enumerate(used)}
    return after - before[[place[row] for row in rows]]


def _maps(
    model: Model,
    x: Tensor,
    called: Sequence[int],
    method: Method,
    ids: Sequence[str],
    seed: int,
    batch_size: int | None,
) -> Tensor:
    """Return maps; an image and its edited copy have the same random stream."""
    values = explain(model, x, method, list(called), ids=list(ids), seed=seed, batch_size=batch_size).values
    assert isinstance(values, Tensor)  # noqa: S101  # one input
    return resized(values.sum(1, keepdim=True), tuple(x.shape[2:]))[:, 0]


def _shares(change: Tensor, trial: _Trial) -> dict[str, float]:
    total = float(change.abs().sum())
    if not total:
        return {"inside": 0.0, "signed": 0.0}
    inside = change[trial.support]
    sign = 1.0 if trial.effect > 0 else -1.0
    return {"inside": float(inside.abs().sum()) / total, "signed": sign * float(inside.sum()) / total}
