"""The question ``[calibrate]``: which methods show changes that were planted in the study's own images."""

from typing import Any

import pyarrow as pa
import torch

from pellucid.errors import BadStudy, CannotExplain
from pellucid.evaluation import Calibration, calibrate
from pellucid.evaluation.calibration import LEAST
from pellucid.interpretation import Evidence, Finding, Interpretations
from pellucid.study.setup import Setup

__all__ = ["answer"]


def answer(setup: Setup, evidence: Evidence) -> Interpretations:
    """Plant changes in explained images, choose a method on one half of them and judge all on the other.

    Raises
    ------
    CannotExplain
        When too few explained images have an outlined object, or the model answers to too few changes.
    """
    asked = setup.config.calibrate
    if asked is None:
        raise BadStudy("the study does not ask for a calibration")
    cases = evidence.cases(asked.images, evidence.ids)
    if len(cases) < LEAST:
        raise CannotExplain(
            f"calibrate: {len(cases)} explained images have an outline of {evidence.outlined}; {LEAST} are needed"
        )
    found = calibrate(
        evidence.model,
        torch.stack([case.image for case in cases]),
        torch.stack([case.outline for case in cases]),
        evidence.methods,
        share=asked.share,
        least=asked.least,
        ids=[case.id for case in cases],
        groups=[case.group for case in cases],
        seed=evidence.seed,
        batch_size=evidence.batch_size,
        progress=evidence.progress,
    )
    tables = {"planted_changes": found.table, "planted_ranking": _ranking(found)}
    return Interpretations((_finding(found, tables["planted_ranking"].to_pylist()),), tables)


def _ranking(found: Calibration) -> pa.Table:
    """Return one row a method, best first on the judging images: its place and the scores, with intervals."""
    rows, judged = found.ranking.table.to_pylist(), found.judged
    means = {(row["method"], row["metric"]): row["mean"] for row in rows if row["metric"] != "overall"}
    return pa.Table.from_pylist(
        [
            {"method": row["method"], "rank": row["rank"], "low": row["low"], "high": row["high"],
             "level": row["tied_with_best"], "below_control": row["below_control"], "control": row["control"],
             "proportion": judged[row["method"]].value, "proportion_low": judged[row["method"]].low,
             "proportion_high": judged[row["method"]].high, "balance": means[row["method"], "balance"], "locality": means[row["method"], "locality"],
             "images": row["n"], "groups": judged[row["method"]].groups, "chosen": row["method"] == found.chosen}
            for row in rows if row["metric"] == "overall"
        ]
    )  # fmt: skip


def _finding(found: Calibration, rows: list[dict[str, Any]]) -> Finding:
    """Say which method to believe here, or that none is shown to know of the planted changes."""
    own = next(row for row in rows if row["method"] == found.chosen)
    level = [row["method"] for row in rows if row["level"] and row["method"] != found.chosen and not row["control"]]
    beyond = own["below_control"] is False or (own["below_control"] is None and own["proportion_low"] > 0)
    upheld = bool(own["level"]) and beyond
    if upheld:
        said = f"{found.chosen} shows best what changes in these images do to the model"
        said += f", level with {', '.join(level)}." if level else "."
    elif beyond:
        said = f"{found.chosen} was chosen on one half of the images, but is behind {rows[0]['method']} on the other: no one method is best here."
    else:
        said = "No method is shown to know, better than a random map, what changes in these images do to the model."
    return Finding(
        id="recommended",
        kind="recommended",
        subject=found.chosen,
        statement=said,
        evidence=f"Chosen on one half of {len(set(found.table['image'].to_pylist()))} edited images, judged on the other: the changes of "
        f"its map in the edited places follow those of the model's score with a proportion of {own['proportion']:.2f} (95 % interval "
        f"{own['proportion_low']:.2f} to {own['proportion_high']:.2f}; 1 is all, a random map has 0), {own['images']} images in "
        f"{own['groups']} groups. Edits: brightness, colour and texture of places, patches, and spots on the object.",
        value=own["proportion"],
        low=own["proportion_low"],
        high=own["proportion_high"],
        verdict="supported" if upheld else "undecided",
    )
