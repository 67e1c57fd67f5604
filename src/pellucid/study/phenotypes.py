"""Which measured phenotypes the model follows: a study's generator moves them, they are measured again, the model is read."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa
import torch
from torch import Tensor

from pellucid.counterfactual import GENERATORS, FittedGenerator, gate
from pellucid.errors import BadStudy, CannotExplain, PellucidError
from pellucid.hashing import hash_key
from pellucid.interpretation import Evidence, Finding, Interpretations, find_batch_colour, phenotype_findings
from pellucid.interpretation.batch_colour import untested_batch
from pellucid.interpretation.phenotypes import (
    Atlas,
    Court,
    DoseResponse,
    LatentCauses,
    Necessity,
    court,
    disentanglement,
    dose_response,
    latent_causes,
    latent_phenotypes,
    necessity,
)
from pellucid.intervals import Interval, mean_interval, or_null
from pellucid.measure import SEGMENTATIONS, Profiler
from pellucid.study.choose import training
from pellucid.study.latent_names import read_names
from pellucid.study.questions import PhenotypesConfig
from pellucid.study.setup import Setup

__all__ = ["STRIPS", "answer_phenotypes"]

STRIPS = "phenotypes/strips.safetensors"
"""``strips`` ``(M, K, C, *S)``: an image a phenotype at the doses of ``doses``, for the phenotypes of the strips' table."""

_SHOWN = (-2.0, -1.0, 0.0, 1.0, 2.0)
_MOST_STRIPS = 6
_TIED = 200
_GATED = 32


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
    inquest = _Inquest.of(setup, evidence, config)
    doses = inquest.doses()
    needed = inquest.necessity()
    causes = inquest.causes()
    judged = inquest.court()
    overlap = inquest.outlines()
    findings = phenotype_findings(doses, needed, causes, judged, batch=inquest.batch, outlines=overlap)
    findings = [*inquest.verdict(), *findings, *inquest.regions(judged)]
    setup.store.write_tensors(STRIPS, {"strips": inquest.strips(doses)})
    return Interpretations(tuple(findings), inquest.tables(doses, needed, causes, judged, overlap))


@dataclass(frozen=True, eq=False)
class _Inquest:
    """What is asked, of which images."""

    setup: Setup
    evidence: Evidence
    config: PhenotypesConfig
    atlas: Atlas
    known: list[str]
    ids: list[str]
    images: Tensor
    passed: bool
    told: str

    @classmethod
    def of(cls, setup: Setup, evidence: Evidence, config: PhenotypesConfig) -> "_Inquest":
        images = evidence.images
        for column in (*config.confounders, *filter(None, [config.batch])):
            images.column(column, [])
        if config.mask is not None and config.mask not in images.masks:
            raise BadStudy(
                f"phenotypes.mask = {config.mask!r} is no mask of these images; they have {', '.join(images.masks) or 'none'}"
            )
        known = _in_order(evidence, training(images, trained_here=setup.config.fit is not None, seed=evidence.seed)
                          or [name for name in images.ids if name not in set(evidence.ids)])[: config.training]  # fmt: skip
        if len(known) < 40:
            raise BadStudy(f"[phenotypes] learns from 40 images or more that are not explained, not from {len(known)}")
        learnt = images.tensor(known)
        fitted = _fitted(setup, config, learnt, evidence)
        profiler = Profiler(
            record=images.record, names=tuple(config.phenotypes or ()), outline=SEGMENTATIONS.parse(config.segmentation),
            spot_diameter=config.spot_diameter,
        )  # fmt: skip
        atlas = Atlas.of(
            fitted, learnt, profiler, groups=evidence.groups(known), others=config.others, seed=evidence.seed,
            progress=evidence.progress,
        )  # fmt: skip
        ids = _in_order(evidence, evidence.ids)[: config.images]
        moved = images.tensor(ids)
        passed, told = _gate(setup, evidence, fitted, learnt)
        return cls(setup, evidence, config, atlas, known, ids, moved, passed, told)

    @property
    def batch(self) -> str | None:
        """The column of the court."""
        return self.config.batch or self.evidence.batch

    @property
    def target(self) -> str | None:
        """The class whose score single images are asked about."""
        return self.config.target

    def doses(self) -> DoseResponse:
        evidence, config = self.evidence, self.config
        return dose_response(
            evidence.model, self.atlas, self.images, groups=evidence.groups(self.ids), ids=self.ids,
            targets=None if config.target is None else [config.target], doses=tuple(config.doses),
            permutations=config.permutations, seed=evidence.seed, batch_size=evidence.batch_size, progress=evidence.progress,
        )  # fmt: skip

    def necessity(self) -> Necessity | None:
        evidence = self.evidence
        try:
            return necessity(
                evidence.model, self.atlas, self.images, groups=evidence.groups(self.ids), target=self.target,
                seed=evidence.seed, batch_size=evidence.batch_size, progress=evidence.progress,
            )  # fmt: skip
        except CannotExplain:
            return None

    def causes(self) -> LatentCauses | None:
        evidence = self.evidence
        names = {latent: one["name"] for latent, one in read_names(self.setup.store).items()}
        labels = None if evidence.images.labels is None else list(evidence.images.label(self.ids))
        try:
            return latent_causes(
                evidence.model, self.atlas, self.images, target=self.target, labels=labels, names=names,
                groups=evidence.groups(self.ids), ids=self.ids, seed=evidence.seed, batch_size=evidence.batch_size,
                progress=evidence.progress,
            )  # fmt: skip
        except CannotExplain:
            return None

    def court(self) -> Court | None:
        evidence, images = self.evidence, self.evidence.images
        if self.batch is None or images.labels is None:
            return None
        kept = [name for name, whole in zip(self.known, self.atlas.whole, strict=True) if whole]
        try:
            return court(
                evidence.model, self.atlas, self.images, classes=images.label(kept), batches=images.column(self.batch, kept),
                groups=evidence.groups(self.ids), target=self.target, seed=evidence.seed, batch_size=evidence.batch_size,
            )  # fmt: skip
        except CannotExplain:
            return None

    def regions(self, judged: Court | None) -> list[Finding]:
        """Return what edits of regions say of a batch that no association can part from the classes, unless it is told already."""
        if judged is None or judged.verdict != "not separable by association" or self.batch == self.evidence.batch:
            return []
        try:
            found, _ = find_batch_colour(replace(self.evidence, batch=self.batch))
        except PellucidError as error:
            found = [untested_batch(str(error))]
        return [replace(finding, id=f"court-{finding.id}") for finding in found]

    def outlines(self) -> Interval | None:
        """Return how far the segmentation and the mask agree on the moved images (overlap over union)."""
        if self.config.mask is None:
            return None
        drawn = self.evidence.images.mask(self.config.mask, self.ids)
        pairs = [
            (self.atlas.profiler.outline(image) > 0, mask > 0)
            for image, mask in zip(self.images, drawn, strict=True)
            if mask is not None
        ]
        shares = [float((one & other).sum() / (one | other).sum().clamp(min=1)) for one, other in pairs]
        return mean_interval(shares, bounds=(0.0, 1.0), seed=self.evidence.seed)

    def verdict(self) -> list[Finding]:
        """Return the gate's verdict where it is closed: numbers stand under it, pictures do not."""
        if self.passed:
            return []
        return [
            Finding(
                id="phenotypes-gate", kind="gate", subject="generator", verdict="undecided",
                statement="The generator failed a test on held-out images: what follows from moved phenotypes is a lead, not a result.",
                evidence=self.told,
            )
        ]  # fmt: skip

    def strips(self, doses: DoseResponse) -> Tensor:
        """Return the first image at rising doses of each of the steepest phenotypes ``(M, K, C, *S)``."""
        space, names = self.atlas.space, self.strip_names(doses)
        first = self.images[:1]
        start = space.encode(first)
        made = []
        for name in names:
            points = self.atlas.directions.path(start, self.atlas.names.index(name), _SHOWN)[0]
            with torch.no_grad():
                made.append(torch.cat([space.moved(first, start, point[None]) for point in points]))
        return torch.stack(made) if made else torch.zeros(0, len(_SHOWN), *first.shape[1:])

    @staticmethod
    def strip_names(doses: DoseResponse) -> list[str]:
        rows = [
            row
            for row in doses.table.to_pylist()
            if row["slope"] is not None and row["verdict"] not in {"not held", "not moved"}
        ]
        ordered = sorted(rows, key=lambda row: -abs(row["slope"]))
        return list(dict.fromkeys(row["phenotype"] for row in ordered))[:_MOST_STRIPS]

    def tables(
        self,
        doses: DoseResponse,
        needed: Necessity | None,
        causes: LatentCauses | None,
        judged: Court | None,
        outlines: Interval | None,
    ) -> dict[str, pa.Table]:
        """Return all that the report prints."""
        evidence = self.evidence
        ids = _in_order(evidence, evidence.predictions["image"].to_pylist())[:_TIED]
        confounders = {name: evidence.images.column(name, ids) for name in self.config.confounders}
        tied = latent_phenotypes(
            self.atlas, evidence.images.tensor(ids), confounders=confounders or None, groups=evidence.groups(ids), seed=evidence.seed,
        )  # fmt: skip
        points = self.atlas.space.centre + self.atlas.directions.heads.points @ self.atlas.space.axes.T
        parted = disentanglement(
            points.numpy(), self.atlas.values, self.atlas.names, groups=self.atlas.groups, seed=evidence.seed
        )
        found = {
            "phenotype_doses": doses.table, "phenotype_curves": doses.curves, "phenotype_responses": doses.responses,
            "phenotype_latents": tied, "phenotype_disentanglement": parted, "phenotype_summary": _summary(self, doses, needed, outlines),
            "phenotype_strips": pa.table({"phenotype": pa.array(self.strip_names(doses), pa.string()),
                                          "image": pa.array([self.ids[0]] * len(self.strip_names(doses)), pa.string())}),
        }  # fmt: skip
        if needed is not None:
            found["phenotype_necessity"] = needed.table
        if causes is not None:
            found |= {"phenotype_causes": causes.causes, "phenotype_players": causes.table}
        if judged is not None:
            found |= {"phenotype_court": judged.table, "phenotype_profiles": judged.profiles}
        return found


def _summary(asked: _Inquest, doses: DoseResponse, needed: Necessity | None, outlines: Interval | None) -> pa.Table:
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


def _in_order(evidence: Evidence, ids: Sequence[str]) -> list[str]:
    return sorted(ids, key=lambda name: hash_key(evidence.seed, "phenotypes", name))


def _fitted(setup: Setup, config: PhenotypesConfig, learnt: Tensor, evidence: Evidence) -> FittedGenerator:
    """Return the generator of the counterfactuals where there is one, else one fitted here and kept."""
    store, shape = setup.store, tuple(learnt.shape[1:])
    other = setup.config.counterfactual
    kept = store.read_tensors("counterfactual/generator.safetensors") if other is not None else None
    if other is not None and kept is not None:
        return GENERATORS.parse(other.generator).restore(kept, shape)
    generator, own = GENERATORS.parse(config.generator), "phenotypes/generator.safetensors"
    kept = store.read_tensors(own)
    if kept is not None:
        return generator.restore(kept, shape)
    (store.root / "phenotypes").mkdir(exist_ok=True)
    checkpoint = store.root / "phenotypes" / "checkpoint.pt"
    fitted = generator.fit(
        learnt, evidence.model, seed=evidence.seed, checkpoint=checkpoint, progress=evidence.progress
    )
    store.write_tensors(own, fitted.tensors())
    store.forget("phenotypes/checkpoint.pt")
    return fitted


def _gate(setup: Setup, evidence: Evidence, fitted: FittedGenerator, learnt: Tensor) -> tuple[bool, str]:
    """Return the verdict of the counterfactuals' gate, or try the generator here."""
    known = setup.store.read_table("interpretation/counterfactual_gate.parquet")
    if known is None:
        ids = _in_order(evidence, evidence.predictions["image"].to_pylist())[: 4 * _GATED]
        verdict = gate(
            fitted, evidence.model, evidence.images.tensor(ids), training=learnt, ids=ids, seed=evidence.seed, most=_GATED,
            batch_size=evidence.batch_size,
        )  # fmt: skip
        return verdict.passed, str(verdict)
    failed = [row["name"] for row in known.to_pylist() if not row["passed"]]
    return not failed, f"Failed: {', '.join(failed)}." if failed else "All tests passed."
