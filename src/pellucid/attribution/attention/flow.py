"""Attention flow: how much can flow from a patch to the output through the layers' attention, as a maximum flow."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import csr_array
from scipy.sparse.csgraph import maximum_flow

from pellucid.attribution.attention.readers import Query, readers
from pellucid.attribution.attention.rollout import with_residual
from pellucid.attribution.attention.watching import Layers, read_layers, square_layers
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy
from pellucid.attribution.packing import batches
from pellucid.attribution.tokens import PatchGrid
from pellucid.errors import CannotExplain

__all__ = ["attention_flow", "largest_flows"]

_UNIT = 2**30
"""Capacities are whole multiples of 1 / _UNIT, rounded down."""

_SECONDS = 5e-8
"""For one edge in one flow, on one ordinary core."""

_LONGEST = 60.0
"""Seconds a row beyond which the exact answer is refused."""

Matrix = NDArray[np.float64]


@METHODS.register
@dataclass(frozen=True, kw_only=True, repr=False)
class attention_flow(Method):
    """How much information could flow from each patch to the output, were attention the width of pipes.

    For each patch, the maximum flow from it to the class token of the last layer, in the graph whose edges are the
    layers' 0.5 A + 0.5 I, A the mean over heads. Exact but for the capacities' rounding down to multiples of 2⁻³⁰: the
    values are too small by at most 2⁻³⁰ × the number of edges. At most 1, and the same for every target.

    Attributes
    ----------
    query, grid
        As for `attention_maps`; the patches' ``"mean"`` is a sink that takes an equal share of 1 from each of them.

    Raises
    ------
    CannotExplain
        As for `attention_rollout`; and when the graph is so large that a row would take more than a minute.
    """

    query: Query | None = None
    grid: PatchGrid = None

    taxonomy: ClassVar[Taxonomy] = Taxonomy(
        family="attention",
        question="How much could flow from each patch to the output through the layers' attention?",
        needs=("attention",),
        sign="positive",
        cost="1 forward, and a maximum flow a patch",
        reference="Abnar and Zuidema 2020, ACL",
        warning="Attention, not attribution, and the same for every target; in deep networks every patch comes near the "
        "bound of 1, and the map says nothing any more.",
        kind="visualisation",
        mechanism="attention",
    )

    def attribute(self, call: Call) -> Attribution:
        """Find the maximum flow from every patch of every row."""
        layers = square_layers(call, self, self.grid)
        _refuse_large(layers)
        weights, warnings = readers(call, layers, self.query)
        sources, parts = range(layers.tokens.count)[layers.tokens.patches], []
        for batch in batches(call):
            maps = [with_residual(layer).double().cpu().numpy()
                    for layer in read_layers(batch, layers, lambda _, maps: maps.mean(1))]  # fmt: skip
            flows = [largest_flows(row, weights.double().numpy(), sources) for row in zip(*maps, strict=True)]
            parts.append(torch.from_numpy(np.stack(flows)).to(batch.inputs[0]).reshape(-1, 1, *layers.tokens.grid))
        return Attribution((torch.cat(parts),), warnings=warnings)


def largest_flows(layers: Sequence[Matrix], readers: Matrix, sources: Sequence[int]) -> Matrix:
    """Return the maximum flow from each of some tokens of the first layer to the output.

    Parameters
    ----------
    layers
        ``(T, T)`` each: how much token q of a layer can take from token k of the layer before.
    readers
        ``(T,)`` how much the output can take from each token of the last layer.
    sources
        Tokens from which the flow starts.
    """
    graph = _graph(layers, readers)
    flows = [maximum_flow(graph, source, graph.shape[0] - 1).flow_value for source in sources]
    return np.array(flows, dtype=np.float64) / _UNIT


def _graph(layers: Sequence[Matrix], readers: Matrix) -> Any:
    """Return capacities between nodes: layer by layer the tokens, and last the output."""
    tokens, below = len(readers), np.arange(len(readers))
    sink = (len(layers) + 1) * tokens
    starts = [np.tile(below + depth * tokens, tokens) for depth in range(len(layers))]
    ends = [np.repeat(below + (depth + 1) * tokens, tokens) for depth in range(len(layers))]
    capacities = np.concatenate([*(layer.ravel() for layer in layers), readers])
    places = (np.concatenate([*starts, below + sink - tokens]), np.concatenate([*ends, np.full(tokens, sink)]))
    graph = csr_array(((capacities * _UNIT).astype(np.int32), places), shape=(sink + 1, sink + 1))
    graph.eliminate_zeros()
    return graph


def _refuse_large(layers: Layers) -> None:
    tokens = layers.tokens.count
    seconds = _SECONDS * len(layers) * tokens**2 * tokens
    if seconds > _LONGEST:
        raise CannotExplain(
            f"attention_flow needs {tokens} maximum flows over {len(layers)} layers of {tokens} × {tokens} edges, about "
            f"{seconds / 60:.0f} min a row; use attention_rollout or chefer"
        )
