"""The verdict of one image: whether its maps may be read, beside the call that they explain."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import torch
from torch import Tensor

from pellucid.evaluation.positions import Grid, place
from pellucid.evaluation.statistics import average_ranks, pearson
from pellucid.interpretation.checks import NAMED
from pellucid.interpretation.evidence import Evidence

__all__ = ["CASES", "judge_cases"]

WON = 0.5
"""Share of scores in which maps must beat the control for an image's maps to be better than it."""

_BLOCK = 16

CASES = pa.schema(
    [
        pa.field("image", pa.string(), nullable=False),
        pa.field("agreement", pa.float64()),
        pa.field("edges", pa.float64()),
        pa.field("won", pa.int64(), nullable=False),
        pa.field("compared", pa.int64(), nullable=False),
        pa.field("readable", pa.bool_()),
        pa.field("sentence", pa.string(), nullable=False),
    ]
)
"""One line an image: mean rank correlation of the believed methods' maps, and theirs with the edge map, which agreement
must exceed lest the image alone explain it; of the faithfulness scores compared with the
control's, those won; whether the maps may be read (null where nothing could be compared); and the sentence."""


@dataclass(frozen=True)
class _Seen:
    """What is known of one image."""

    call: dict[str, Any]
    methods: Sequence[str]
    agreement: float | None
    edges: float | None
    won: int
    compared: int
    control: str

    @property
    def readable(self) -> bool | None:
        """Whether the maps of the image agree and beat the control, as far as that could be told."""
        told = []
        if self.agreement is not None:
            told.append(self._alike)
        if self.compared:
            told.append(self.won > WON * self.compared)
        return all(told) if self.compared else None

    @property
    def sentence(self) -> str:
        """Everything in one sentence."""
        if not self.methods:
            return f"{self._call}; no method is believed in this study, so its maps support no statement of this image."
        parts = [part for part in (self._agree, self._beat) if part]
        end = {
            True: "", False: "; rest no statement on the maps of this image alone",
            None: "; whether they beat a control here could not be told",
        }[self.readable]  # fmt: skip
        return f"{self._call}; {', and '.join(parts) or 'one method is believed'}{end}."

    @property
    def _call(self) -> str:
        label, sure = self.call.get("label"), self.call.get("confidence")
        told = (
            "has no label to check it"
            if label is None
            else "is right"
            if label == self.call["predicted"]
            else "is wrong"
        )
        return f"The call {told}" + ("" if sure is None else f" (probability {sure:.2f})")

    @property
    def _agree(self) -> str:
        if self.agreement is None:
            return ""
        word = (
            "agree" if self._alike else "agree no better than with the image's edges" if self.edges else "do not agree"
        )
        beside = "" if self.edges is None else f", with the image's edges {self.edges:.2f}"
        return f"the {len(self.methods)} believed methods {word} (mean rank correlation {self.agreement:.2f}{beside})"

    @property
    def _alike(self) -> bool:
        """Whether the methods agree by more than what the image itself makes them share."""
        return (self.agreement or 0.0) > max(self.edges or 0.0, 0.0)

    @property
    def _beat(self) -> str:
        control = NAMED.get(self.control, self.control)
        whose = "their maps beat" if self.agreement is not None else f"the map of {self.methods[0]} beats" if (
            len(self.methods) == 1) else "the believed maps beat"  # fmt: skip
        return f"{whose} {control} in {self.won} of {self.compared} faithfulness scores" if self.compared else ""


def judge_cases(evidence: Evidence, methods: Sequence[str]) -> pa.Table:
    """Judge every explained image; see `CASES`.

    Parameters
    ----------
    evidence
        What the study holds.
    methods
        The methods that are believed.
    """
    calls = {row["image"]: row for row in evidence.predictions.to_pylist()}
    duels, control = _duels(evidence, methods)
    rows = [
        {
            "image": image, "agreement": seen.agreement, "edges": seen.edges, "won": seen.won, "compared": seen.compared,
            "readable": seen.readable, "sentence": seen.sentence,
        }
        for image, agreement, edges in _agreements(evidence, methods)
        for seen in (_Seen(calls[image], methods, agreement, edges, *duels.get(image, (0, 0)), control),)
    ]  # fmt: skip
    return pa.Table.from_pylist(rows, schema=CASES)


def _agreements(evidence: Evidence, methods: Sequence[str]) -> Iterator[tuple[str, float | None, float | None]]:
    """Yield every image with the mean rank correlation of its maps and of these with its edges; None where there is none."""
    edges = next((name for name in evidence.methods if name.split("(")[0] == "edge_map"), None)
    grid = Grid.of((torch.empty(1, *evidence.images.shape),))
    for start in range(0, len(evidence.ids), _BLOCK):
        ids = evidence.ids[start : start + _BLOCK]
        ranks = _ranks(evidence, methods, ids, grid)
        control = [] if edges is None else _ranks(evidence, (edges,), ids, grid)
        among = _mean_correlation(list(combinations(ranks, 2)), len(ids))
        beside = _mean_correlation([(one, other) for one in ranks for other in control], len(ids))
        yield from zip(ids, among, beside, strict=True)


def _ranks(evidence: Evidence, methods: Sequence[str], ids: Sequence[str], grid: Grid) -> list[Tensor]:
    """Return the ranks of the magnitudes ``(N, P)`` of every method whose maps have a place on the image."""
    placed = [place((evidence.maps(method, ids),), grid) for method in methods]
    return [average_ranks(one.values.double().abs()) for one in placed if not one.reason]


def _mean_correlation(pairs: Sequence[tuple[Tensor, Tensor]], rows: int) -> list[float | None]:
    if not pairs:
        return [None] * rows
    means = torch.stack([pearson(one, other) for one, other in pairs]).nanmean(0).tolist()
    return [None if np.isnan(mean) else mean for mean in means]


def _duels(evidence: Evidence, methods: Sequence[str]) -> tuple[dict[str, tuple[int, int]], str]:
    """Return for every image how many faithfulness scores of the methods beat the control's and how many were compared."""
    table, out = evidence.scores, pa.array(list(evidence.left_out), pa.string())
    kept = pc.and_(pc.equal(table["family"], "faithfulness"), pc.invert(pc.is_in(table["metric"], out)))
    rows = table.filter(pc.and_(kept, pc.is_valid(table["value"]))).to_pylist()
    own = {name for name in {row["method"] for row in rows if row["control"]} if name.split("(")[0] == "random_map"}
    control = next(iter(own), "")
    bar = {(row["image"], row["metric"], row["seed"]): row["value"] for row in rows if row["method"] == control}
    told: dict[str, tuple[int, int]] = {}
    for row in rows:
        level = bar.get((row["image"], row["metric"], row["seed"]))
        if row["method"] not in methods or level is None:
            continue
        ahead = (row["value"] - level) * (1 if row["direction"] == "higher" else -1)
        won, compared = told.get(row["image"], (0, 0))
        told[row["image"]] = (won + (ahead > row["resolution"]), compared + 1)
    return told, control.split("(")[0]
