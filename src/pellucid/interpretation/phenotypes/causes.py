"""Which named latent drove the call of each image, right or wrong: Shapley values with latents as the players."""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution import explain
from pellucid.attribution.perturbation import Labels, kernel_shap
from pellucid.errors import CannotExplain, ShapeError
from pellucid.hashing import hash_key
from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.basis import Axes, Basis
from pellucid.interpretation.phenotypes.scoring import Scorer
from pellucid.intervals import mean_interval, or_null
from pellucid.models import Model, Passes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["LatentCauses", "latent_causes"]

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class LatentCauses:
    """What each latent or phenotype axis adds to the model's score of each image, against other real images.

    Attributes
    ----------
    players
        Names.
    values, error
        ``(N, players)``: Shapley values of the score, and their standard errors; a row adds up to the score less the mean
        score of the references, up to what the generator cannot show.
    coordinates
        ``(N, players)`` how far each image lies out along each player's axes (signed where it has one).
    table
        Over all images, strongest first: ``player``, ``size`` (mean of |value|) with ``low`` and ``high``, ``slope``
        (correlation of value and coordinate: + where more of it raises the score).
    causes
        One row an image: ``image``, ``group``, ``label``, ``predicted``, ``correct``, ``cause`` (the player that speaks most for what
        the model called), ``name`` (an expert's, else the player's), ``value``, ``share`` (of all that speaks for the call),
        ``score``.
    """

    players: tuple[str, ...]
    values: Array
    error: Array
    coordinates: Array
    table: pa.Table
    causes: pa.Table

    def plot(self) -> "Figure":
        """Draw all values of the strongest players, a dot an image."""
        from pellucid.show import plot_latent_causes  # noqa: PLC0415  # pictures know results, not the reverse

        return plot_latent_causes(self)


def latent_causes(
    model: Model | Callable[..., Any],
    atlas: Atlas,
    images: Tensor,
    *,
    axes: Axes = "phenotypes",
    target: str | int | None = None,
    labels: Sequence[int | None] | None = None,
    names: Mapping[str, str] | None = None,
    groups: Sequence[Hashable] | None = None,
    ids: Sequence[str] | None = None,
    references: int = 6,
    samples: int = 256,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> LatentCauses:
    """Share out each image's score among its latents, and name the one that drove the call.

    A player that is absent takes the value that it has in a reference image (interventional Shapley values, the mean over
    references), all else stays the image's own; the change is decoded and pasted onto the real image, and the model is asked.

    Parameters
    ----------
    model, atlas, groups, ids, seed, batch_size, progress
        As for `dose_response`.
    images
        ``(N, C, *S)``, misclassified ones too.
    axes
        Players: raw ``"latents"``, or axes of the ``"phenotypes"`` and all that is left.
    target
        Class of the score; default: the second of two, else the first.
    labels
        True class of each image, for saying which calls are wrong.
    names
        What an expert calls a player.
    references
        Images of the atlas that stand in, spread over its groups.
    samples
        Coalitions an image and reference; all of them where they are fewer.

    References
    ----------
    Lundberg & Lee 2017, A unified approach to interpreting model predictions; Rotem et al. 2024, DISCOVER, Nat Commun 15, 7390.
    """
    own, basis = Model.of(model), Basis.of(atlas, axes)
    known = [f"image {row}" for row in range(len(images))] if ids is None else list(ids)
    units = [str(one) for one in (known if groups is None else groups)]
    if len(known) != len(images) or len(units) != len(images) or (labels is not None and len(labels) != len(images)):
        raise ShapeError(f"ids, groups and labels do not fit {len(images)} images")
    with Passes(own, batch_size=batch_size) as passes:
        scorer = Scorer.of(passes, images, None if target is None else [target])
        if own.task == "regression":
            raise CannotExplain("a regression calls no class; ask dose_response() for what moves it")
        game = _Game(atlas, basis, scorer, images.cpu(), atlas.space.encode(images))
        drawn = _references(atlas, references, seed)
        found = [game.played(one, known, samples, seed, progress=progress) for one in drawn]
        scores = scorer(game.images)[:, 0]
        predicted = _called(passes, own, game.images)
    values = np.mean([value for value, _ in found], axis=0)
    error = np.sqrt(np.sum([one**2 for _, one in found], axis=0)) / len(found)
    placed = game.placed()
    return LatentCauses(
        basis.names, values, error, placed, _table(basis.names, values, placed, units, seed),
        _causes(basis.names, values, scores, predicted, scorer, labels or [None] * len(images), names or {}, known, units),
    )  # fmt: skip


@dataclass(frozen=True, eq=False)
class _Game:
    atlas: Atlas
    basis: Basis
    scorer: Scorer
    images: Tensor
    start: Tensor

    def placed(self) -> Array:
        """Return each image's coordinate along each player's axis; the length where a player has several."""
        coordinates, players = self.basis.coordinates(self.start), self.basis.players
        own = [coordinates[:, players == player] for player in range(len(self.basis.names))]
        return np.stack([(one[:, 0] if one.shape[1] == 1 else one.norm(dim=1)).numpy() for one in own], 1)

    def played(self, reference: Tensor, ids: Sequence[str], samples: int, seed: int, *, progress: bool) -> tuple[Array, Array]:
        """Return Shapley values and errors against one reference image: our own kernel regression on coordinates.

        An image is a signal whose positions are its coordinates; a last position that is no segment tells the row apart.
        """
        rows = torch.arange(len(self.images), dtype=torch.float64)[:, None]
        signals = torch.cat([self.basis.coordinates(self.start), rows], 1)[:, None]
        fill = torch.cat([self.basis.coordinates(reference[None]), torch.zeros(1, 1, dtype=torch.float64)], 1)
        labels = torch.cat([self.basis.players + 1, torch.zeros(1, dtype=torch.long)])
        method = kernel_shap(segments=Labels(labels, background=0), samples=samples, fill=fill)
        told = explain(Model(self._scored, task="regression"), signals, method, 0, ids=ids, seed=seed, progress=progress)
        effects = torch.as_tensor(told.details["effects"]).double().numpy()
        spread = torch.as_tensor(told.error).double() if isinstance(told.error, Tensor) else torch.zeros(signals.shape)
        return effects, self._by_player(spread[:, 0, :-1])

    def _by_player(self, spread: Tensor) -> Array:
        own = [spread[:, self.basis.players == player] for player in range(len(self.basis.names))]
        return np.stack([one.sum(1).numpy() for one in own], 1)

    def _scored(self, signals: Tensor) -> Tensor:
        """Return scores ``(N, 1)`` of signals: the row's image with the change of its latents pasted on."""
        rows = signals[:, 0, -1].round().long()
        after = self.basis.points(signals[:, 0, :-1].double())
        made = self.atlas.space.moved(self.images[rows], self.start[rows], after)
        return torch.from_numpy(self.scorer(made)[:, :1])


def _references(atlas: Atlas, count: int, seed: int) -> list[Tensor]:
    """Return points of the atlas's images, one a group while there are groups, by hash."""
    order = sorted(range(len(atlas.groups)), key=lambda row: hash_key(seed, "reference", row))
    first = {str(atlas.groups[row]): row for row in reversed(order)}
    chosen = sorted(first.values(), key=order.index)[:count]
    chosen += [row for row in order if row not in chosen][: count - len(chosen)]
    return [atlas.directions.heads.points[row] for row in chosen]


def _called(passes: Passes, model: Model, images: Tensor) -> list[int]:
    outputs = passes.outputs(model.prepare(images)).cpu()
    called: list[int] = ((outputs[:, 0] > 0).long() if outputs.shape[1] == 1 else outputs.argmax(1)).tolist()
    return called


def _table(names: Sequence[str], values: Array, placed: Array, groups: Sequence[str], seed: int) -> pa.Table:
    rows = []
    for place, name in enumerate(names):
        size = mean_interval(np.abs(values[:, place]), groups=groups, seed=seed)
        varied = values[:, place].std() > 0 and placed[:, place].std() > 0
        slope = float(np.corrcoef(values[:, place], placed[:, place])[0, 1]) if varied else np.nan
        rows.append({"player": name, "size": size.value, "low": or_null(size.low), "high": or_null(size.high), "slope": or_null(slope)})
    return pa.Table.from_pylist(sorted(rows, key=lambda row: -row["size"]))


def _causes(
    players: Sequence[str], values: Array, scores: Array, predicted: Sequence[int], scorer: Scorer,
    labels: Sequence[int | None], names: Mapping[str, str], ids: Sequence[str], groups: Sequence[str],
) -> pa.Table:  # fmt: skip
    rows = []
    for row, image in enumerate(ids):
        towards = (1.0 if predicted[row] == scorer.columns[0] else -1.0) * values[row]
        best, label = int(towards.argmax()), labels[row]
        rows.append({
            "image": image, "group": groups[row], "label": label, "predicted": predicted[row],
            "correct": None if label is None else label == predicted[row], "cause": players[best],
            "name": names.get(players[best], players[best]), "value": float(values[row, best]),
            "share": float(towards[best] / max(towards.clip(min=0).sum(), 1e-12)), "score": float(scores[row]),
        })  # fmt: skip
    return pa.Table.from_pylist(rows, schema=_CAUSES)


_CAUSES = pa.schema([
    ("image", pa.string()), ("group", pa.string()), ("label", pa.int64()), ("predicted", pa.int64()), ("correct", pa.bool_()),
    ("cause", pa.string()), ("name", pa.string()), ("value", pa.float64()), ("share", pa.float64()), ("score", pa.float64()),
])  # fmt: skip
