"""What a study asks of measured phenotypes, and of which images: moved, held, told apart from a batch."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from torch import Tensor

from pellucid.counterfactual import GENERATORS, FittedGenerator, gate
from pellucid.errors import BadStudy, CannotExplain, PellucidError
from pellucid.hashing import hash_key
from pellucid.images import ImageRecord
from pellucid.interpretation import Evidence, Finding, find_batch_colour
from pellucid.interpretation.batch_colour import untested_batch
from pellucid.interpretation.phenotypes import (
    Atlas,
    Court,
    DoseResponse,
    LatentCauses,
    Necessity,
    court,
    dose_response,
    latent_causes,
    necessity,
    skill,
)
from pellucid.intervals import Interval, mean_interval
from pellucid.measure import SEGMENTATIONS, Profiler
from pellucid.study.choose import training
from pellucid.study.latent_names import read_names
from pellucid.study.questions import PhenotypesConfig
from pellucid.study.setup import Setup

__all__ = ["Inquest", "in_order", "profiler_of"]

_GATED = 32


@dataclass(frozen=True, eq=False)
class Inquest:
    """What is asked, of which images.

    Attributes
    ----------
    setup, evidence, config
        The study, its model and images, its table ``[phenotypes]``.
    atlas
        Where the phenotypes lie.
    known, ids
        Images that it was learnt from, and images that are moved.
    images
        The latter, ``(N, C, *S)``.
    passed, told
        The gate's verdict on the generator.
    """

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
    def of(cls, setup: Setup, evidence: Evidence, config: PhenotypesConfig) -> "Inquest":
        """Learn where the phenotypes lie, from images that are not explained, with the study's generator."""
        images = evidence.images
        for column in (*config.confounders, *filter(None, [config.batch])):
            images.column(column, [])
        if config.mask is not None and config.mask not in images.masks:
            raise BadStudy(
                f"phenotypes.mask = {config.mask!r} is no mask of these images; they have {', '.join(images.masks) or 'none'}"
            )
        known = in_order(evidence, training(images, trained_here=setup.config.fit is not None, seed=evidence.seed)
                          or [name for name in images.ids if name not in set(evidence.ids)])[: config.training]  # fmt: skip
        if len(known) < 40:
            raise BadStudy(f"[phenotypes] learns from 40 images or more that are not explained, not from {len(known)}")
        learnt = images.tensor(known)
        fitted = _fitted(setup, config, learnt, evidence)
        atlas = Atlas.of(
            fitted, learnt, profiler_of(config, images.record), groups=evidence.groups(known), others=config.others, seed=evidence.seed,
            progress=evidence.progress,
        )  # fmt: skip
        ids = in_order(evidence, evidence.ids)[: config.images]
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
        """Return how the score follows each phenotype."""
        evidence, config = self.evidence, self.config
        return dose_response(
            evidence.model, self.atlas, self.images, groups=evidence.groups(self.ids), ids=self.ids,
            targets=None if config.target is None else [config.target], doses=tuple(config.doses),
            permutations=config.permutations, seed=evidence.seed, batch_size=evidence.batch_size, progress=evidence.progress,
        )  # fmt: skip

    def necessity(self) -> Necessity | None:
        """Return what the answer needs; None where there is none to change."""
        evidence = self.evidence
        try:
            return necessity(
                evidence.model, self.atlas, self.images, groups=evidence.groups(self.ids), target=self.target,
                seed=evidence.seed, batch_size=evidence.batch_size, progress=evidence.progress,
            )  # fmt: skip
        except CannotExplain:
            return None

    def causes(self) -> LatentCauses | None:
        """Return what drives single calls; None where no axis can be named."""
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
        """Return the judgement on the batch; None where there is no batch or nothing flips."""
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

    def learnt(self) -> Interval | None:
        """Return by how much the model beats chance on labelled images that no phenotype was learnt from; None without such."""
        predictions, images = self.evidence.predictions, self.evidence.images
        if images.labels is None or self.evidence.model.task == "regression":
            return None
        called = dict(zip(predictions["image"].to_pylist(), predictions["predicted"].to_pylist(), strict=True))
        known = set(self.known)
        ids = [name for name in called if name not in known]
        if len(set(images.label(ids))) < 2:
            return None
        groups = self.evidence.groups(ids)
        return skill(images.label(ids), [called[name] for name in ids], groups=groups, seed=self.evidence.seed)

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


def profiler_of(config: PhenotypesConfig, record: ImageRecord) -> Profiler:
    """Return what measures the images of a study: its outlines, its phenotypes, its spots."""
    return Profiler(
        record=record, names=tuple(config.phenotypes or ()), outline=SEGMENTATIONS.parse(config.segmentation),
        spot_diameter=config.spot_diameter,
    )  # fmt: skip


def in_order(evidence: Evidence, ids: Sequence[str]) -> list[str]:
    """Return ids in the order of a hash, from which the first are taken."""
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
        ids = in_order(evidence, evidence.predictions["image"].to_pylist())[: 4 * _GATED]
        verdict = gate(
            fitted, evidence.model, evidence.images.tensor(ids), training=learnt, ids=ids, seed=evidence.seed, most=_GATED,
            batch_size=evidence.batch_size,
        )  # fmt: skip
        return verdict.passed, str(verdict)
    failed = [row["name"] for row in known.to_pylist() if not row["passed"]]
    return not failed, f"Failed: {', '.join(failed)}." if failed else "All tests passed."
