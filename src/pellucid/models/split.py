"""Who trains, who stops the training and who judges: a split that never parts a group."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pellucid.errors import BadImage
from pellucid.hashing import hash_key
from pellucid.images import ImageSet

__all__ = ["Split", "split_images"]

_SHARES: Mapping[str, float] = {"train": 0.7, "val": 0.15, "test": 0.15}
_NAMES: Mapping[str, str] = {
    "train": "train", "training": "train",
    "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test", "holdout": "test",
}  # fmt: skip


@dataclass(frozen=True)
class Split:
    """Image ids for training, for early stopping and calibration, and for the reported accuracy."""

    train: tuple[str, ...]
    val: tuple[str, ...]
    test: tuple[str, ...]


def split_images(images: ImageSet, *, split: str | None = None, group: str | None = None, seed: int = 0) -> Split:
    """Divide images into train, val and test so that no group (patient, smear, plate) is in two of them.

    Parameters
    ----------
    images
        A labelled set.
    split
        Metadata column naming train, val or test, by default the set's own; val is cut from train by group where the
        column has none. Without a column the parts are 70, 15 and 15 % of the images, balanced over the classes.
    group
        Metadata column, by default the set's own; images that share its value stay together. Without one, every image is its own group.
    seed
        The order of the groups is their hash with it: adding a class name or moving a file changes nothing.

    Raises
    ------
    BadImage
        When a group lies in two parts of the given split, a value of the column is no part, or there are too few
        groups to divide.
    """
    split, group = split or images.split_column, group or images.group_column
    groups = _groups(images, group)
    if split is None:
        return _gather(images.ids, groups, _dealt(images, images.ids, groups, _SHARES, seed))
    part = {name: _part(value, split) for name, value in zip(images.ids, images.column(split), strict=True)}
    _refuse_leak(part, groups, split, group)
    if "train" not in part.values():
        raise BadImage(f"the column {split!r} names no training images; it needs the value train")
    if "val" not in part.values():
        training = [name for name in images.ids if part[name] == "train"]
        shares = {"train": 0.85, "val": 0.15}
        dealt = _dealt(images, training, groups, shares, seed)
        part |= {name: dealt[groups[name]] for name in training}
    return Split(*(tuple(name for name in images.ids if part[name] == wanted) for wanted in _SHARES))


def _groups(images: ImageSet, group: str | None) -> dict[str, str]:
    if group is None:
        return {name: f"image {name}" for name in images.ids}
    values = images.column(group)
    return {
        name: f"image {name}" if value is None else f"group {value}"
        for name, value in zip(images.ids, values, strict=True)
    }


def _part(value: object, split: str) -> str:
    part = _NAMES.get(str(value).strip().lower())
    if part is None:
        raise BadImage(f"the column {split!r} holds {value!r}; it may hold train, val and test")
    return part


def _refuse_leak(part: Mapping[str, str], groups: Mapping[str, str], split: str, group: str | None) -> None:
    first: dict[str, str] = {}
    for name, own in groups.items():
        if first.setdefault(own, part[name]) != part[name]:
            raise BadImage(
                f"the {group} {own.removeprefix('group ')!r} lies in {first[own]} and in {part[name]} of the column "
                f"{split!r}, so the accuracy would be too high; keep each {group} in one part"
            )


def _dealt(
    images: ImageSet, ids: Sequence[str], groups: Mapping[str, str], shares: Mapping[str, float], seed: int
) -> dict[str, str]:
    """Return a part for every group: dealt class by class to the part that lags most behind its share."""
    size = Counter(groups[name] for name in ids)
    if len(size) < len(shares):
        raise BadImage(f"{len(size)} groups cannot be divided into {', '.join(shares)}; give at least {len(shares)}")
    counts: dict[str, Counter[int]] = {}
    for name, label in zip(ids, images.label(ids), strict=True):
        counts.setdefault(groups[name], Counter())[label] += 1
    usual = {own: min(count, key=lambda label: (-count[label], label)) for own, count in counts.items()}
    order = sorted(size, key=lambda own: (usual[own], hash_key(seed, own)))
    part: dict[str, str] = {}
    held, total = dict.fromkeys(shares, 0), 0
    for own in order:
        total += size[own]
        part[own] = max(shares, key=lambda name: shares[name] * total - held[name])
        held[part[own]] += size[own]
    _fill_empty(part, order, shares)
    return part


def _fill_empty(part: dict[str, str], order: Sequence[str], shares: Mapping[str, float]) -> None:
    for wanted in shares:
        if wanted not in part.values():
            held = Counter(part.values())
            giver = next(own for own in reversed(order) if held[part[own]] > 1)
            part[giver] = wanted


def _gather(ids: Sequence[str], groups: Mapping[str, str], part: Mapping[str, str]) -> Split:
    return Split(*(tuple(name for name in ids if part[groups[name]] == wanted) for wanted in _SHARES))
