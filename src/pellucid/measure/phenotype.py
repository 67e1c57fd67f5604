"""The registry of phenotypes: what is measured of an object, in which unit, and what it means."""

from dataclasses import dataclass
from typing import Literal

from pellucid.images.imageset import ImageRecord

__all__ = ["CORE", "GRAINS", "PHENOTYPES", "RINGS", "Panel", "Phenotype", "columns"]

Panel = Literal["core", "full"]

RINGS = 4
"""Rings into which an object is cut from its middle to its edge."""

GRAINS = (1, 2, 3, 4)
"""Radii in pixels of the discs that the granularity spectrum opens with."""


@dataclass(frozen=True)
class Phenotype:
    """One measured quantity.

    Attributes
    ----------
    name
        The column; where `per_channel`, the channel's name is appended, then `ending`: ``Intensity_MeanIntensity_green``,
        ``RadialDistribution_FracAtD_green_1of4``.
    power
        Of length in the unit: 1 for µm, −1 for per µm, 0 for none; `None` for an area in 2-D and a volume in 3-D.
    meaning
        One line.
    family
        ``size``, ``shape``, ``intensity``, ``texture``, ``spots``, ``background``, ``granularity``, ``colour``, ``radial``
        or ``neighbours``.
    intensity
        Whether the unit carries the image's own intensity.
    per_channel
        Whether there is one column a channel.
    dimensions
        Numbers of spatial axes for which it is defined; elsewhere the column is empty.
    ending
        What follows the channel's name.
    degrees
        Whether it is an angle.
    """

    name: str
    power: int | None
    meaning: str
    family: str
    intensity: bool = False
    per_channel: bool = False
    dimensions: tuple[int, ...] = (2, 3)
    ending: str = ""
    degrees: bool = False

    def unit(self, record: ImageRecord) -> str:
        """Return the unit for images of that record: micrometres where the pixel size is known, else pixels."""
        if self.degrees:
            return "°"
        length = "px" if record.spacing is None else "µm"
        power = len(record.spatial) if self.power is None else self.power
        size = {0: "", 1: length, 2: f"{length}²", 3: f"{length}³", -1: f"1/{length}"}[power]
        parts = [part for part in ("intensity" if self.intensity else "", size) if part]
        return "·".join(parts) if parts else "1"


def _intensity(name: str, meaning: str) -> Phenotype:
    return Phenotype(f"Intensity_{name}Intensity", 0, meaning, "intensity", intensity=True, per_channel=True)


def _ring(name: str, meaning: str) -> tuple[Phenotype, ...]:
    return tuple(
        Phenotype(f"RadialDistribution_{name}", 0, f"{meaning}, ring {ring} of {RINGS} from the middle", "radial",
                  per_channel=True, ending=f"_{ring}of{RINGS}")
        for ring in range(1, RINGS + 1)
    )  # fmt: skip


CORE = (
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
"""The twenty phenotypes of every object, in the order of their columns: quick, and the same for good."""

FURTHER = (
    Phenotype("AreaShape_MajorAxisLength", 1, "long axis of the ellipse or ellipsoid with its moments", "size"),
    Phenotype("AreaShape_MinorAxisLength", 1, "short axis of the ellipse or ellipsoid with its moments", "size"),
    Phenotype("AreaShape_Compactness", 0, "spread about its centre, 1 for a disc or ball, more for others", "shape"),
    Phenotype("AreaShape_EulerNumber", 0, "pieces less holes (in 3-D plus cavities): 1 for a whole object", "shape"),
    Phenotype("AreaShape_SurfaceArea", 2, "area of its surface", "size", dimensions=(3,)),
    Phenotype("AreaShape_Sphericity", 0, "surface of the ball of its volume over its own, 1 for a ball", "shape", dimensions=(3,)),
    Phenotype("AreaShape_SurfaceToVolume", -1, "surface over volume", "shape", dimensions=(3,)),
    _intensity("LowerQuartile", "a quarter of the object's pixels lie below"),
    _intensity("Median", "half of the object's pixels lie below"),
    _intensity("UpperQuartile", "three quarters of the object's pixels lie below"),
    _intensity("MAD", "median distance from the median"),
    *(
        Phenotype(f"Granularity_{radius}", 0, f"share of the intensity in bright grains that a disc of {radius} px radius is the first too wide for",
                  "granularity", per_channel=True, dimensions=(2,))
        for radius in GRAINS
    ),
    Phenotype("Colour_MeanHue", 0, "mean hue round the colour circle, weighed by saturation", "colour", degrees=True),
    Phenotype("Colour_MeanSaturation", 0, "mean saturation, 0 for grey", "colour"),
    *_ring("FracAtD", "share of the object's intensity"),
    *_ring("MeanFrac", "mean intensity over that of the whole object"),
    Phenotype("RadialDistribution_RimMinusCentre", 0, "mean of the outermost ring less that of the innermost", "radial",
              intensity=True, per_channel=True),
    Phenotype("Neighbors_FirstClosestDistance", 1, "from its centre to the nearest other object's", "neighbours"),
    Phenotype("Neighbors_Number", 0, "other objects whose centre lies within two mean diameters", "neighbours"),
)  # fmt: skip
"""What the panel ``"full"`` adds."""

PHENOTYPES = (*CORE, *FURTHER)
"""Every phenotype, in the order of the columns."""


def columns(record: ImageRecord, panel: Panel = "core") -> dict[str, tuple[Phenotype, str]]:
    """Return each column of a measured table with its phenotype and unit, for images of that record.

    Parameters
    ----------
    record
        Gives channels, axes and pixel size.
    panel
        ``"core"``: the twenty phenotypes of `CORE`; ``"full"``: all of `PHENOTYPES`.
    """
    found: dict[str, tuple[Phenotype, str]] = {}
    for phenotype in CORE if panel == "core" else PHENOTYPES:
        suffixes = [f"_{channel}" for channel in record.channels] if phenotype.per_channel else [""]
        unit = phenotype.unit(record)
        found |= {phenotype.name + suffix + phenotype.ending: (phenotype, unit) for suffix in suffixes}
    return found
