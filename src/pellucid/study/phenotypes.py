"""Which measured phenotypes the model follows: a study's generator moves them, they are measured again, the model is read."""

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.errors import BadStudy
from pellucid.interpretation import Evidence, Finding, Interpretations, phenotype_findings
from pellucid.interpretation.phenotypes import (
    Court,
    DoseResponse,
    LatentCauses,
    Necessity,
    disentanglement,
    latent_phenotypes,
)
from pellucid.intervals import Interval, or_null
from pellucid.study.inquest import Inquest, in_order
from pellucid.study.setup import Setup

__all__ = ["STRIPS", "answer_phenotypes"]

STRIPS = "phenotypes/strips.safetensors"
"""``strips`` ``(M, K, C, *S)``: an image a phenotype at the doses of ``doses``, for the phenotypes of the strips' table."""

_SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)
_MOST_STRIPS = 6
_TIED = 200


def answer_phenotypes(setup: Setup, evidence: Evidence) -> Interpretations:
    """Learn where phenotypes lie in the generator's latents, move them, and say what the model follows.

    Raises
    ------
    BadStudy
        When there are too few images to learn from, or a column is none of the images'.
    CannotExplain
        When no phenotype varies.
    """
    config = setup.config.phenotypes
    if config is None:
        raise BadStudy("this study asks for no phenotypes; give a table [phenotypes]")
    inquest = Inquest.of(setup, evidence, config)
    doses = inquest.doses()
    needed = inquest.necessity()
    causes = inquest.causes()
    judged = inquest.court()
    overlap = inquest.outlines()
    findings = phenotype_findings(
        doses, needed, causes, judged, batch=inquest.batch, outlines=overlap, learnt=inquest.learnt()
    )
    findings = [*_verdict(inquest), *findings, *inquest.regions(judged)]
    setup.store.write_tensors(STRIPS, {"strips": _strips(inquest, doses)})
    return Interpretations(tuple(findings), _tables(inquest, doses, needed, causes, judged, overlap))


def _verdict(inquest: Inquest) -> list[Finding]:
    """Return the gate's verdict where it is closed: numbers stand under it, pictures do not."""
    if inquest.passed:
        return []
    return [
        Finding(
            id="phenotypes-gate", kind="gate", subject="generator", verdict="undecided",
            statement="The generator failed a test on held-out images: what follows from moved phenotypes is a lead, not a result.",
            evidence=inquest.told,
        )
    ]  # fmt: skip


def _strips(inquest: Inquest, doses: DoseResponse) -> Tensor:
    """Return the first image at rising doses of each of the steepest phenotypes ``(M, K, C, *S)``."""
    space, names = inquest.atlas.space, _strip_names(doses)
    first = inquest.images[:1]
    start = space.encode(first)
    made = []
    for name in names:
        points = inquest.atlas.directions.path(start, inquest.atlas.names.index(name), _SHOWN)[0]
        with torch.no_grad():
            made.append(torch.cat([space.moved(first, start, point[None]) for point in points]))
    return torch.stack(made) if made else torch.zeros(0, len(_SHOWN), *first.shape[1:])


def _strip_names(doses: DoseResponse) -> list[str]:
    rows = [
        row
        for row in doses.table.to_pylist()
        if row["slope"] is not None and row["verdict"] not in {"not held", "not moved"}
    ]
    ordered = sorted(rows, key=lambda row: -abs(row["slope"]))
    return list(dict.fromkeys(row["phenotype"] for row in ordered))[:_MOST_STRIPS]


def _tables(
    inquest: Inquest,
    doses: DoseResponse,
    needed: Necessity | None,
    causes: LatentCauses | None,
    judged: Court | None,
    outlines: Interval | None,
) -> dict[str, pa.Table]:
    """Return all that the report prints."""
    evidence = inquest.evidence
    ids = in_order(evidence, evidence.predictions["image"].to_pylist())[:_TIED]
    confounders = {name: evidence.images.column(name, ids) for name in inquest.config.confounders}
    tied = latent_phenotypes(
        inquest.atlas, evidence.images.tensor(ids), confounders=confounders or None, groups=evidence.groups(ids), seed=evidence.seed,
    )  # fmt: skip
    points = inquest.atlas.space.centre + inquest.atlas.directions.heads.points @ inquest.atlas.space.axes.T
    parted = disentanglement(
        points.numpy(), inquest.atlas.values, inquest.atlas.names, groups=inquest.atlas.groups, seed=evidence.seed
    )
    found = {
        "phenotype_doses": doses.table, "phenotype_curves": doses.curves, "phenotype_responses": doses.responses,
        "phenotype_latents": tied, "phenotype_disentanglement": parted, "phenotype_summary": _summary(inquest, doses, needed, outlines),
        "phenotype_strips": pa.table({"phenotype": pa.array(_strip_names(doses), pa.string()),
                                      "image": pa.array([inquest.ids[0]] * len(_strip_names(doses)), pa.string())}),
    }  # fmt: skip
    if needed is not None:
        found["phenotype_necessity"] = needed.table
    if causes is not None:
        found |= {"phenotype_causes": causes.causes, "phenotype_players": causes.table}
    if judged is not None:
        found |= {"phenotype_court": judged.table, "phenotype_profiles": judged.profiles}
    return found


def _summary(asked: Inquest, doses: DoseResponse, needed: Necessity | None, outlines: Interval | None) -> pa.Table:
    """Return single numbers with their intervals, a row each."""
    numbers: dict[str, Interval | None] = {
        "failed": doses.failed, "outlines": outlines, "flips": None if needed is None else needed.flips,
        "known_moves": None if needed is None else needed.known_moves,
        "known_real": None if needed is None else Interval(needed.known_real, np.nan, np.nan, len(asked.atlas.groups), 0),
        "gate": Interval(float(asked.passed), np.nan, np.nan, 1, 1),
        "learnt": Interval(float(len(asked.atlas.groups)), np.nan, np.nan, 1, 1),
    }  # fmt: skip
    return pa.Table.from_pylist([
        {"number": name, "value": or_null(one.value), "low": or_null(one.low), "high": or_null(one.high), "n": one.n, "groups": one.groups}
        for name, one in numbers.items() if one is not None
    ])  # fmt: skip
