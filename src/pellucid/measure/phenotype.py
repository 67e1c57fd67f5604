"""The registry of phenotypes: what is measured of an object, in which unit, and what it means."""

from dataclasses import dataclass

from pellucid.images.imageset import ImageRecord

__all__ = ["PHENOTYPES", "Phenotype", "columns"]


@dataclass(frozen=True)
class Phenotype:
    """One measured quantity.

    Attributes
    ----------
    name
        The column; where `per_channel`, the channel's name is appended: ``Intensity_MeanIntensity_green``.
    power
        Of length in the unit: 1 for µm, −1 for per µm, 0 for none; `None` for an area in 2-D and a volume in 3-D.
    meaning
        One line.
    family
        ``size``, ``shape``, ``intensity``, ``texture``, ``spots`` or ``background``.
    intensity
        Whether the unit carries the image's own intensity.
    per_channel
        Whether there is one column a channel.
    dimensions
        Numbers of spatial axes for which it is defined; elsewhere the column is empty.
    """

    name: str
    power: int | None
    meaning: str
    family: str
    intensity: bool = False
    per_channel: bool = False
    dimensions: tuple[int, ...] = (2, 3)

    def unit(self, record: ImageRecord) -> str:
        """Return the unit for images of that record: micrometres where the pixel size is known, else pixels."""
        length = "px" if record.spacing is None else "µm"
        power = len(record.spatial) if self.power is None else self.power
        size = {0: "", 1: length, 2: f"{length}²", 3: f"{length}³", -1: f"1/{length}"}[power]
        parts = [part for part in ("intensity" if self.intensity else "", size) if part]
        return "·".join(parts) if parts else "1"


def _intensity(name: str, meaning: str) -> Phenotype:
    return Phenotype(f"Intensity_{name}Intensity", 0, meaning, "intensity", intensity=True, per_channel=True)


PHENOTYPES = (
    Phenotype("AreaShape_Area", None, "area of the object, its volume in 3-D", "size"),
    Phenotype("AreaShape_Perimeter", 1, "length of its outline, by Crofton's formula", "size", dimensions=(2,)),
    Phenotype("AreaShape_EquivalentDiameter", 1, "diameter of the disc or ball of the same size", "size"),
    Phenotype("AreaShape_Eccentricity", 0, "0 for a circle, towards 1 for a line", "shape", dimensions=(2,)),
    Phenotype("AreaShape_Solidity", 0, "share of its convex hull that it fills", "shape"),
    Phenotype("AreaShape_Extent", 0, "share of its bounding box that it fills", "shape"),
    Phenotype("AreaShape_FormFactor", 0, "4π·area/perimeter², 1 for a circle", "shape", dimensions=(2,)),
    _intensity("Mean", "mean over the object"),
    _intensity("Std", "standard deviation over the object"),
    _intensity("Min", "lowest value in the object"),
    _intensity("Max", "highest value in the object"),
    _intensity("Integrated", "sum over the object's pixels"),
    Phenotype("Texture_Contrast", 0, "squared grey-level step to the next pixel", "texture", dimensions=(2,)),
    Phenotype("Texture_Correlation", 0, "likeness of neighbouring pixels", "texture", dimensions=(2,)),
    Phenotype("Texture_AngularSecondMoment", 0, "evenness of grey-level pairs", "texture", dimensions=(2,)),
    Phenotype("Spots_Count", 0, "bright spots in the object", "spots"),
    Phenotype("Spots_MeanDiameter", 1, "mean diameter of its spots at half height", "spots"),
    Phenotype("Spots_MeanBrightness", 0, "mean height of its spots over their surroundings", "spots", intensity=True),
    Phenotype("Background_MeanIntensity", 0, "mean outside all objects", "background", intensity=True),
    Phenotype("Background_Slope", -1, "steepness of the plane through the background", "background", intensity=True),
)
"""The twenty phenotypes of every object, in the order of their columns."""


def columns(record: ImageRecord) -> dict[str, tuple[Phenotype, str]]:
    """Return each column of a measured table with its phenotype and unit, for images of that record."""
    found: dict[str, tuple[Phenotype, str]] = {}
    for phenotype in PHENOTYPES:
        suffixes = [f"_{channel}" for channel in record.channels] if phenotype.per_channel else [""]
        found |= {phenotype.name + suffix: (phenotype, phenotype.unit(record)) for suffix in suffixes}
    return found
