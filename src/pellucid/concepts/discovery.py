"""Concepts without labels: parts that a layer adds its activations up from, and how much the answer hangs on each."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import torch
from numpy.typing import NDArray
from torch import Tensor

from pellucid.attribution.scaling import resized
from pellucid.concepts.dimming import Dimming
from pellucid.concepts.features import Pictures, layer_maps
from pellucid.concepts.parts import coded, places, split, stability
from pellucid.errors import CannotExplain, ShapeError
from pellucid.images import ImageSet
from pellucid.intervals import mean_interval
from pellucid.models import Model, Passes
from pellucid.models.targets import resolve

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["DiscoveredConcepts", "Exemplar", "discover_concepts"]

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Exemplar:
    """Where one image shows a concept most.

    Attributes
    ----------
    image
        Its id.
    box
        ``((y0, x0), (y1, x1))`` of the crop round the strongest place, the second excluded; one number a spatial axis.
    strength
        Of the concept at that place.
    """

    image: str
    box: tuple[tuple[int, ...], tuple[int, ...]]
    strength: float


@dataclass(frozen=True, eq=False)
class DiscoveredConcepts:
    """Parts of a layer's activations, the one that the answer hangs on most first.

    Attributes
    ----------
    table
        One row a concept: ``concept``, ``importance`` (total Sobol index: share of the output's variance, when parts are
        dimmed at random, in which it has a hand) with bounds; ``effect`` (fall of the output when it alone is taken out) with
        bounds; ``stability`` (cosine with the same part found on either half of the images); ``share`` of all activation;
        ``images, groups``.
    directions
        ``(K, C)`` unit vectors over the layer's channels.
    maps
        ``(N, K, *grid)`` how much of each concept is where.
    ids
        Of the images.
    explained
        Share of the activations' energy that the parts add up to.
    fidelity
        Correlation over images between the output on activations rebuilt from the parts and on the true ones; NaN where
        the output does not vary.
    shape
        Spatial axes of the images.
    layer, target, warnings
        As everywhere.
    """

    table: pa.Table
    directions: Tensor
    maps: Tensor
    ids: tuple[str, ...]
    explained: float
    fidelity: float
    shape: tuple[int, ...]
    layer: str
    target: str
    warnings: tuple[str, ...]

    def mask(self, concept: int, row: int) -> Tensor:
        """Return where an image shows a concept at half its strongest there or more: boolean ``(*S)``."""
        whole = resized(self.maps[row : row + 1, concept : concept + 1], self.shape)[0, 0]
        return whole >= 0.5 * whole.max().clamp_min(1e-12)

    def exemplars(self, concept: int, count: int = 5, *, extent: float = 0.35) -> tuple[Exemplar, ...]:
        """Return the images that show a concept most at one place, with a crop of that share of the image round it."""
        peaks = self.maps[:, concept].flatten(1).max(1)
        order = peaks.values.argsort(descending=True, stable=True)[:count]
        return tuple(
            Exemplar(self.ids[row], self._box(int(peaks.indices[row]), extent), float(peaks.values[row]))
            for row in order.tolist()
        )

    def _box(self, place: int, extent: float) -> tuple[tuple[int, ...], tuple[int, ...]]:
        grid = self.maps.shape[2:]
        cells = np.unravel_index(place, tuple(grid))
        low, high = [], []
        for cell, count, length in zip(cells, grid, self.shape, strict=True):
            side = max(1, min(length, round(extent * length)))
            start = int(min(max(0, round((int(cell) + 0.5) * length / count - side / 2)), length - side))
            low.append(start)
            high.append(start + side)
        return tuple(low), tuple(high)

    def plot(self, images: ImageSet, *, most: int = 6, each: int = 5) -> "Figure":
        """Draw the leading concepts: crops of the images that show each most, with its importance."""
        from pellucid.show.exemplars import exemplar_figure  # noqa: PLC0415  # pictures know results, not the reverse

        return exemplar_figure(self, images, most=most, each=each)

    def __repr__(self) -> str:
        told = f"{len(self.directions)} concepts of {self.layer} in {len(self.ids)} images"
        return f"DiscoveredConcepts({told}, explained {self.explained:.2f}, fidelity {self.fidelity:.2f})"


def discover_concepts(
    model: Model | Callable[..., Any],
    images: Tensor | ImageSet,
    layer: str,
    *,
    ids: Sequence[str] | None = None,
    target: Any = None,
    concepts: int = 8,
    samples: int = 16,
    groups: Sequence[str] | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> DiscoveredConcepts:
    """Find the parts that a layer's activations are added up from, without any label, and rank them by what they do.

    Parameters
    ----------
    model
        A `Model`, or any ``nn.Module``.
    images, ids
        Best those of one class.
    layer
        With feature maps that are nowhere negative, as behind a ReLU.
    target
        As for `pellucid.explain`.
    concepts
        How many to look for.
    samples
        Points of the Sobol design, a power of two: an image costs samples × (concepts + 2) forwards.
    groups
        The independent unit of each image.
    seed, batch_size, progress
        As everywhere.

    Raises
    ------
    CannotExplain
        When the layer gives no feature maps, or negative values.
    ShapeError
        When there are fewer than four images, or more concepts than channels.

    References
    ----------
    Fel et al. 2023, CRAFT: concept recursive activation factorization for explainability; Lee and Seung 1999, Learning the
    parts of objects by non-negative matrix factorization. Parts are fitted to the activations of all places of whole images.
    """
    own, pictures = Model.of(model), Pictures.of(images, ids)
    maps = layer_maps(own, pictures, layer, batch_size=batch_size)
    _refuse(maps, layer, concepts, samples)
    units = list(pictures.ids) if groups is None else [str(one) for one in groups]
    parts, notes = split(places(maps), concepts, seed)
    strength = coded(maps, parts, seed)
    with Passes(own, batch_size=batch_size, progress=progress) as passes:
        (inputs,) = own.prepare(torch.cat(list(pictures.blocks())))
        outputs = passes.outputs((inputs,))
        asked = resolve(target, own, outputs)
        game = Dimming(passes, inputs, asked.freeze(own, outputs), layer, torch.from_numpy(parts).float(), strength)
        game.refuse_other_layouts(maps)
        passes.expect(len(pictures) * (samples * (concepts + 2) + concepts + 1), "dimming concepts")
        importance = game.importance(samples, seed)
        whole, without = game.lesions()
        truth = passes.scores((inputs,), game.read).cpu().double()
    falls = (whole[:, None] - without).numpy()
    table = _table(importance, falls, stability(maps, parts, units, seed), strength, units, seed)
    order = np.argsort([-row["importance"] for row in table], kind="stable")
    rows = [table[place] | {"concept": rank} for rank, place in enumerate(order)]
    rebuilt = torch.einsum("nk...,kc->nc...", strength, torch.from_numpy(parts).float())
    return DiscoveredConcepts(
        table=pa.Table.from_pylist(rows),
        directions=torch.from_numpy(parts[order]).float(),
        maps=strength[:, order.tolist()],
        ids=pictures.ids,
        explained=float(1 - (maps - rebuilt).double().square().sum() / maps.double().square().sum()),
        fidelity=_correlation(whole.numpy(), truth.numpy()),
        shape=tuple(inputs.shape[2:]),
        layer=layer,
        target=str(asked) if len(str(asked)) < 60 else f"{asked.name} of each image",
        warnings=notes,
    )


def _refuse(maps: Tensor, layer: str, concepts: int, samples: int) -> None:
    if float(maps.min()) < 0:
        raise CannotExplain(
            f"layer {layer!r} gives negative values (down to {float(maps.min()):.3g}), and parts that only add up need none: "
            "choose a layer behind a ReLU"
        )
    if len(maps) < 4 or not 2 <= concepts <= maps.shape[1]:
        raise ShapeError(
            f"discover_concepts(concepts={concepts}) on {len(maps)} images: it takes four images or more and between two and "
            f"{maps.shape[1]} concepts, the channels of layer {layer!r}"
        )
    if samples < 2 or samples & (samples - 1):
        raise ShapeError(f"discover_concepts(samples={samples}): a quasi-Monte-Carlo design takes a power of two")


def _correlation(left: Array, right: Array) -> float:
    if min(np.ptp(left), np.ptp(right)) <= 1e-9:
        return float("nan")
    return float(np.corrcoef(left, right)[0, 1])


def _table(
    importance: Array, falls: Array, stability: Array, strength: Tensor, groups: Sequence[str], seed: int
) -> list[dict[str, Any]]:
    energy = strength.double().movedim(1, 0).flatten(1).sum(1)
    rows = []
    for part in range(len(importance)):
        told = mean_interval(importance[part], groups=groups, bounds=(0.0, np.inf), seed=seed)
        fall = mean_interval(falls[:, part], groups=groups, seed=seed)
        rows.append({
            "concept": part, "importance": told.value, "importance_low": told.low, "importance_high": told.high,
            "effect": fall.value, "effect_low": fall.low, "effect_high": fall.high, "stability": float(stability[part]),
            "share": float(energy[part] / energy.sum()), "images": told.n, "groups": told.groups,
        })  # fmt: skip
    return rows
