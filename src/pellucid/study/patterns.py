"""What pattern methods learn from a study's training images: fitted once, kept in the study, never fitted again."""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from pellucid.attribution import METHODS, Patterns, fit_patterns
from pellucid.attribution.pattern_methods import asks_for_patterns
from pellucid.errors import BadImage, BadStudy, PellucidError
from pellucid.study.choose import training
from pellucid.study.failures import Rows, failure_row, reason_of
from pellucid.study.setup import Setup

__all__ = ["asking", "ensure_patterns", "fitted_on"]

_AT_ONCE = 64


def asking(methods: Sequence[str]) -> list[str]:
    """Return those methods that take the model's own patterns."""
    return [method for method in methods if asks_for_patterns(METHODS.parse(method))]


def ensure_patterns(setup: Setup, *, progress: bool = False) -> None:
    """Fit patterns where a method asks for them and they are not there yet; note what they are in the study file.

    Raises
    ------
    BadStudy
        When those on disk are not those that the study began with.
    """
    store = setup.store
    if not store.patterns.is_file():
        _refuse_lost(setup)
        methods = asking(setup.config.explain.methods)
        if not methods or setup.planned:
            return
        failures: Rows = []
        try:
            found = fitted_on(setup, training_images(setup), failures, progress=progress)
        except PellucidError as error:
            failures += [failure_row("explain", str(error), method=method) for method in methods]
        else:
            store.write_patterns(found)
        store.write_failures("patterns", failures)
    if store.patterns.is_file():
        setup.model.fitted = setup.fitted
        _note(setup, Patterns.load(store.patterns).digest)


def _refuse_lost(setup: Setup) -> None:
    if "patterns" in setup.store.settings()["provenance"]:
        raise BadStudy(
            f"{setup.store.patterns}, with which the study began, is gone; put it back or choose another --out"
        )


def _note(setup: Setup, digest: str) -> None:
    settings = setup.store.settings()
    told = settings["provenance"].setdefault("patterns", digest)
    if told != digest:
        raise BadStudy(f"{setup.store.patterns} changed since the study began; choose another --out")
    setup.store.write_settings(settings)


def training_images(setup: Setup) -> tuple[str, ...]:
    """Return the images that patterns are fitted on.

    Raises
    ------
    BadStudy
        When the study knows none.
    """
    config, images = setup.config, setup.images
    found = training(images, trained_here=config.fit is not None, seed=config.seed)
    if not found:
        raise BadStudy(
            "pattern_net and pattern_attribution are fitted on training images, and this study names none: give "
            '[images] split = ... with the value "train", or pattern_net(patterns="file.safetensors")'
        )
    return found


def fitted_on(setup: Setup, ids: Sequence[str], failures: Rows, *, progress: bool = False) -> Patterns:
    """Fit patterns on those of some images that can be read."""
    batches = _batches(setup, ids, failures)
    return fit_patterns(setup.model, batches, batch_size=setup.config.run.batch_size, progress=progress)


def _batches(setup: Setup, ids: Sequence[str], failures: Rows) -> Iterator[Tensor]:
    for start in range(0, len(ids), _AT_ONCE):
        tensors = []
        for image in ids[start : start + _AT_ONCE]:
            try:
                tensors.append(setup.images.load(image))
            except BadImage as error:
                failures.append(failure_row("read", reason_of(error), image=image))
        if tensors:
            yield torch.stack(tensors)
