"""Find what would stop a study, before it is begun: paths, columns, one image, the model, methods, masks."""

from dataclasses import dataclass
from pathlib import Path

import torch

from pellucid.attribution import Explanation
from pellucid.attribution.pattern_methods import PATTERNS
from pellucid.errors import BadStudy, PellucidError
from pellucid.evaluation import CONTROLS, METRICS
from pellucid.images import ImageSet
from pellucid.models import Model, Passes, residual_net
from pellucid.study.choose import held_out
from pellucid.study.config import StudyConfig, read_config
from pellucid.study.patterns import asking, fitted_on, training_images
from pellucid.study.planned import planned
from pellucid.study.runner import probe
from pellucid.study.setup import Setup, device_of, open_images, open_model
from pellucid.study.slide_planned import planned_slides
from pellucid.study.store import Store
from pellucid.study.tables import FitConfig

__all__ = ["Checked", "check_study"]

_FEW = 4
"""Images that patterns are tried on."""


@dataclass(frozen=True)
class Checked:
    """What a check saw.

    Attributes
    ----------
    notes
        What the study will do, line by line.
    problems
        What would fail during the study, a sentence each; the rest of the study would be kept.
    """

    notes: tuple[str, ...]
    problems: tuple[str, ...]


def check_study(toml: str | Path, *, data: str | Path | None = None, trust: bool = False) -> Checked:
    """Do everything that could fail later on one image, now.

    Parameters
    ----------
    toml
        The study file.
    data
        Folder of the images, in place of ``images.path``.
    trust
        Consent to execute what the model's file or factory holds.

    Raises
    ------
    PellucidError
        When the study could not begin; one sentence.
    """
    config, file = read_config(toml, data=data)
    images = open_images(config.images, config.model.classes)
    model = _model(config, images, trust=trust)
    setup = Setup(Store(file.path.parent), config, trust, given=model)
    setup.refuse_other_classes(model)
    ids = held_out(images, trained_here=config.fit is not None, seed=config.seed)
    if not ids:
        raise BadStudy("no image is held out from training, so there is nothing to explain")
    first = ids[:1]
    with Passes(model) as passes:
        inputs = model.prepare(images.tensor(first))
        width, size = passes.outputs(inputs).shape[1], config.run.batch_size or passes.batch_size(inputs)
    _refuse_width(images, model, width)
    setup.masks(list(first))
    methods = tuple(dict.fromkeys((*config.explain.methods, *CONTROLS)))
    problems = _without_patterns(setup)
    found, _, failures = probe(setup, first, methods, (), batch_size=size)
    masked = [metric for metric in config.evaluate.metrics if "masks" in METRICS.parse(metric).profile.needs]
    problems += [f"{row['method']}: {row['sentence']}" for row in failures]
    if masked and not setup.truth:
        problems.append(f"{', '.join(masked)} need masks; give [images] masks = ... or leave them out")
    count = min(config.explain.images or len(ids), len(ids))
    cost = planned(setup, first[0], found, count, size) if found else ()
    try:
        slides = planned_slides(setup)
    except PellucidError as error:
        slides, problems = (), [*problems, f"slide: {error}"]
    return Checked((*_notes(setup, ids, found), *cost, *slides), tuple(problems))


def _without_patterns(setup: Setup) -> list[str]:
    """Fit patterns on a few images where a method asks for them, and return what stands against it."""
    if not asking(setup.config.explain.methods):
        return []
    try:
        setup.model.fitted = {PATTERNS: fitted_on(setup, training_images(setup)[:_FEW], [])}
    except PellucidError as error:
        return [str(error)]
    return []


def _model(config: StudyConfig, images: ImageSet, *, trust: bool) -> Model:
    """Return the trained model, or the untrained reference network that the study would train."""
    if config.fit is None:
        return open_model(config.model, device=device_of(config), trust=trust)
    return Model(_untrained(config.fit, images), classes=images.classes, task="classification", embedding="pool")


def _untrained(fit: FitConfig, images: ImageSet) -> torch.nn.Module:
    if images.labels is None:
        raise BadStudy("[fit] needs labels; give [images] labels = ... or class folders")
    return residual_net(
        classes=len(images.classes), channels=images.shape[0], dims=len(images.record.spatial), width=fit.width,
        depth=fit.depth,
    )  # fmt: skip


def _refuse_width(images: ImageSet, model: Model, width: int) -> None:
    classes = 2 if width == 1 and model.task != "regression" else width
    if images.labels is not None and max(images.labels) >= classes:
        raise BadStudy(f"the labels name {len(images.classes)} classes and the model has {width} outputs")


def _again(config: StudyConfig) -> list[str]:
    asked = config.stability
    if asked is None:
        return []
    nets = asked.seeds + asked.shuffled
    return [f"stability: {nets} nets to be trained beside the explained one, about {nets} times its training"]


def _notes(setup: Setup, ids: tuple[str, ...], found: dict[str, Explanation]) -> tuple[str, ...]:
    config, images, truth = setup.config, setup.images, setup.truth
    count = min(config.explain.images or len(ids), len(ids))
    axes = " × ".join(f"{name} {size}" for name, size in zip(images.record.axes, images.shape, strict=True))
    return (
        f"images: {len(images)} of {axes}, {len(images.classes)} classes, {len(ids)} held out, {count} to be explained",
        f"masks: {', '.join(images.masks) or 'none'}; truth: {', '.join(truth) or 'none'}; object: {config.images.object or 'none'}",
        *_told(setup),
        *_again(config),
        f"methods: {', '.join(found)}",
        f"metrics: {', '.join(config.evaluate.metrics) or 'none'}",
    )


def _told(setup: Setup) -> list[str]:
    """Return where the model comes from, its hash, and what its source says of it."""
    source = setup.model.source
    if setup.config.fit is not None or source is None:
        return ["model: to be trained"]
    first = f"model: from {setup.config.model.place} ({source.kind}, sha256:{source.sha256})"
    return [first, *(f"model: {note}" for note in source.notes)]
