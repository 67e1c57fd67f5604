"""Labels of a manifest or of folders become class numbers."""

from collections.abc import Sequence

from pellucid.errors import BadImage
from pellucid.images.listing import Listing

__all__ = ["numbered"]


def numbered(listing: Listing, classes: Sequence[str] | None) -> tuple[tuple[str, ...], tuple[int, ...] | None]:
    """Return class names and one number an image.

    Parameters
    ----------
    listing
        Images with their labels.
    classes
        Class names in the order of the model's outputs; None: the sorted labels, whole numbers by value.

    Raises
    ------
    BadImage
        When a label is no class, or a class is named twice.
    """
    if listing.labels is None:
        return tuple(classes or ()), None
    labels = listing.labels
    if listing.numbered:
        names = tuple(classes or map(str, range(max(map(int, labels)) + 1)))
        labels = tuple(dict(enumerate(names)).get(int(label), label) for label in labels)
    else:
        names = tuple(classes) if classes else _sorted_names(set(labels))
    number = {name: place for place, name in enumerate(names)}
    if len(number) != len(names):
        raise BadImage(f"classes={names} names a class twice")
    for row, (image, label) in enumerate(zip(listing.files, labels, strict=True), start=1):
        if label not in number:
            raise BadImage(
                f"image {row}, {image!r}: its label {label!r} is no class; the classes are {', '.join(names)}"
            )
    return names, tuple(number[label] for label in labels)


def _sorted_names(names: set[str]) -> tuple[str, ...]:
    if all(name.isascii() and name.isdigit() for name in names):
        return tuple(sorted(names, key=lambda name: (int(name), name)))
    return tuple(sorted(names))
