"""Columns of measures and edits in the words that a biologist would use, read off the grammar of their names."""

import re

from pellucid.images.imageset import ImageRecord
from pellucid.measure.edit import EDITS, Edit
from pellucid.measure.phenotype import columns

__all__ = ["edit_in_words", "in_words"]

_SAID = {
    "Intensity": "{what} {channel} intensity", "Texture": "texture {what} {channel}", "Spots": "{what} of bright spots",
    "Background": "{what} of the background", "Granularity": "{channel} brightness in grains of {what} px radius", "Colour": "{what} {channel}",
    "RadialDistribution": "{what}{ring}", "AreaShape": "{what} {channel}", "Neighbors": "{what} {channel}", "Count": "number of {what}",
}  # fmt: skip
"""How each family of measures puts what it measures, the channel and the ring of the object."""

_TERMS = {
    "Min": "lowest", "Max": "highest", "Std": "spread of", "MAD": "typical deviation of", "Integrated": "total", "Mean": "mean",
    "LowerQuartile": "lower quartile of", "UpperQuartile": "upper quartile of", "AngularSecondMoment": "evenness", "Count": "number",
    "FracAtD": "share of the {channel} intensity", "MeanFrac": "relative {channel} intensity",
    "RimMinusCentre": "{channel} intensity of the rim less that of the centre", "FirstClosestDistance": "distance to the nearest object",
    "Number": "number of neighbours", "EulerNumber": "pieces less holes", "FormFactor": "smoothness of the outline (form factor)",
    "MajorAxisLength": "length of the long axis", "MinorAxisLength": "length of the short axis",
}  # fmt: skip
"""Terms of the trade that no biologist would guess from their letters."""


def in_words(column: str, record: ImageRecord | None = None) -> str:
    """Return a column's name in words, with its unit where the images' record gives one.

    ``AreaShape_Area`` is ``area (µm²)``, ``Intensity_StdIntensity_green`` is ``spread of green intensity``. What is no measure of ours
    (a column of the user's own file) keeps its name.

    Parameters
    ----------
    column
        Of a measured table.
    record
        Of the images, for the unit; None: without one.
    """
    family, _, rest = column.partition("_")
    if family not in _SAID or not rest:
        return column
    name, *parts = rest.split("_")
    ring = next((part for part in parts if re.fullmatch(r"\d+of\d+", part)), "")
    channel = " ".join(part for part in parts if part != ring)
    term = name.removesuffix("Intensity") if family == "Intensity" else name
    where = f", ring {ring.replace('of', ' of ')} from the centre" if ring else ""
    words = _SAID[family].replace("{what}", _TERMS.get(term) or _spaced(term)).replace("{ring}", where)
    return " ".join(words.replace("{channel}", channel).split()) + _unit(column, record)


def edit_in_words(edit: str | Edit) -> str:
    """Return an edit as a biologist would note it: ``resize_object(factor=1.25)`` is ``resize object, factor 1.25``."""
    asked = EDITS.parse(edit)
    set_to = [
        f"{name.replace('_', ' ')} {_told(value)}" for name, value in asked.settings.items() if value not in ((), "")
    ]
    return ", ".join([asked.name.replace("_", " "), *set_to])


def _told(value: object) -> str:
    return (
        ":".join(f"{one:g}" for one in value)
        if isinstance(value, tuple)
        else f"{value:g}"
        if isinstance(value, float)
        else str(value)
    )


def _spaced(term: str) -> str:
    return re.sub(r"(?<=[a-z])(?=[A-Z])", " ", term).lower()


def _unit(column: str, record: ImageRecord | None) -> str:
    unit = "" if record is None else columns(record, "full").get(column, (None, ""))[1]
    return "" if unit in {"", "1"} or "intensity" in unit else f" ({unit})"
