"""Which images a study explains: by class and outcome, in an order that only the image's id decides."""

from collections import defaultdict
from collections.abc import Hashable, Sequence
from typing import Literal

import pyarrow as pa

from pellucid.errors import BadImage, BadStudy
from pellucid.hashing import hash_key
from pellucid.images import ImageSet
from pellucid.models import split_images

__all__ = ["choose_images", "held_out", "training", "with_mask"]

Selection = Literal["stratified", "balanced", "random"]

_TEST = frozenset({"test", "testing", "holdout"})
_TRAIN = frozenset({"train", "training"})


def held_out(images: ImageSet, *, trained_here: bool, seed: int) -> tuple[str, ...]:
    """Return the images that judge the model: those it was not trained on, as far as that is known.

    Parameters
    ----------
    images
        All images.
    trained_here
        Whether the study trains the model; the split is then that of the training.
    seed
        Of the split where there is no column.

    Raises
    ------
    BadStudy
        When the split column names no test image.
    """
    if trained_here:
        parts = split_images(images, split=images.split_column, group=images.group_column, seed=seed)
        return parts.test or parts.val
    if images.split_column is None:
        return images.ids
    values = images.column(images.split_column)
    found = tuple(image for image, part in zip(images.ids, values, strict=True) if str(part).strip().lower() in _TEST)
    if not found:
        raise BadStudy(f"the column {images.split_column!r} names no test image; its values are "
                       f"{', '.join(sorted(set(map(str, values)))[:8])}")  # fmt: skip
    return found


def training(images: ImageSet, *, trained_here: bool, seed: int) -> tuple[str, ...]:
    """Return the images that the model was trained on, as far as that is known: none without a split.

    The parameters are those of `held_out`.
    """
    if trained_here:
        return split_images(images, split=images.split_column, group=images.group_column, seed=seed).train
    if images.split_column is None:
        return ()
    values = images.column(images.split_column)
    return tuple(image for image, part in zip(images.ids, values, strict=True) if str(part).strip().lower() in _TRAIN)


def with_mask(images: ImageSet, masks: Sequence[str], ids: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """Return the images in which some annotator marked something, and the sentence of each mask that cannot be read."""
    kept, unread = [], {}
    for image in ids:
        try:
            found = [images.mask(name, [image])[0] for name in masks]
        except BadImage as error:
            unread[image] = str(error)
            continue
        if any(mask is not None and bool((mask > 0).any()) for mask in found):
            kept.append(image)
    return kept, unread


def choose_images(
    predictions: pa.Table, ids: Sequence[str], count: int, *, selection: Selection = "stratified", seed: int = 0
) -> tuple[str, ...]:
    """Choose images to explain, in the order of hash(seed, id): files and rows may move, the choice stays.

    Parameters
    ----------
    predictions
        With the columns image, label and predicted.
    ids
        The images to choose from.
    count
        How many; 0 for all.
    selection
        ``"stratified"`` takes each class and outcome (right, wrong) in its own proportion, at least one image of
        each; ``"balanced"`` takes the same number of each as far as there are; ``"random"`` looks at neither.
    seed
        Of the order.
    """
    wanted = set(ids)
    columns = (predictions[name].to_pylist() for name in ("image", "label", "predicted"))
    stratum = {
        image: (label, label == called) for image, label, called in zip(*columns, strict=True) if image in wanted
    }
    order = sorted(stratum, key=lambda image: hash_key(seed, image))
    if not count or count >= len(order):
        return tuple(order)
    if selection == "random":
        return tuple(order[:count])
    strata: dict[Hashable, list[str]] = defaultdict(list)
    for image in order:
        strata[stratum[image]].append(image)
    sizes = {key: len(names) for key, names in strata.items()}
    shares = _proportional(sizes, count) if selection == "stratified" else _even(sizes, count)
    taken = {image for key, names in strata.items() for image in names[: shares[key]]}
    return tuple(image for image in order if image in taken)


def _proportional(sizes: dict[Hashable, int], count: int) -> dict[Hashable, int]:
    """Give each its proportion by the largest remainder, and at least one where `count` allows it."""
    total = sum(sizes.values())
    floor = 1 if count >= len(sizes) else 0
    exact = {key: size * count / total for key, size in sizes.items()}
    shares = {key: max(floor, int(part)) for key, part in exact.items()}
    while (missing := count - sum(shares.values())) != 0:
        step = 1 if missing > 0 else -1
        able = [key for key in shares if (shares[key] < sizes[key] if step > 0 else shares[key] > floor)]
        key = max(able, key=lambda known: (step * (exact[known] - shares[known]), repr(known)))
        shares[key] += step
    return shares


def _even(sizes: dict[Hashable, int], count: int) -> dict[Hashable, int]:
    """Deal one each in turn until `count` are dealt."""
    shares = dict.fromkeys(sizes, 0)
    while sum(shares.values()) < count:
        for key in sorted(sizes, key=repr):
            if shares[key] < sizes[key] and sum(shares.values()) < count:
                shares[key] += 1
    return shares
