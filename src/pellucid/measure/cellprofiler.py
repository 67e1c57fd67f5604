"""CellProfiler's own measures of every object, by the package cp_measure, for those who need its numbers."""

import importlib
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from torch import Tensor

from pellucid.errors import BadImage
from pellucid.images.imageset import ImageRecord

__all__ = ["cellprofiler_measures"]

_SHAPE = ("sizeshape", "zernike", "feret")
_PREFIX = {"texture": "Texture", **dict.fromkeys(_SHAPE, "AreaShape")}


def cellprofiler_measures(
    image: Tensor, mask: Tensor, record: ImageRecord, *, features: Sequence[str] | None = None
) -> pa.Table:
    """Measure every object as CellProfiler does, in pixels whatever the pixel size.

    Parameters
    ----------
    image
        Float ``(C, *S)``, two or three spatial axes; brought to 0 to 1 by the record's display range.
    mask
        Integer ``(*S)``: 0 is background, each other number an object; boolean: one object.
    record
        Channel names and display range.
    features
        Groups of measures, such as ``("sizeshape", "intensity", "texture")``; None: all that fit the axes.

    Returns
    -------
    pyarrow.Table
        One row an object: ``object``, then CellProfiler's names with the channel's at the end; null where it gives none.

    Raises
    ------
    BadImage
        When cp_measure is not installed, or has no such group of measures.
    """
    measure = _measures(record)
    unknown = set(features or ()) - set(measure)
    if unknown:
        raise BadImage(f"cp_measure has no measures {', '.join(sorted(unknown))}; it has {', '.join(measure)}")
    labels = mask.cpu().numpy().astype(np.int64)
    numbers = np.unique(labels[labels > 0])
    compact = np.where(labels > 0, np.searchsorted(numbers, labels) + 1, 0)
    low, high = record.display_range
    pixels = np.clip((image.detach().cpu().numpy().astype(np.float64) - low) / (high - low), 0.0, 1.0)
    columns: dict[str, pa.Array] = {"object": pa.array(numbers)}
    if len(numbers):
        for name in features or measure:
            for channel, field in zip(record.channels, pixels, strict=True):
                suffix = "" if name in _SHAPE else f"_{channel}"
                columns |= _named(measure[name], compact, field, _PREFIX.get(name, ""), suffix)
                if name in _SHAPE:
                    break  # the same for every channel
    return pa.table(columns)


def _measures(record: ImageRecord) -> Mapping[str, Callable[..., Any]]:
    try:
        bulk = importlib.import_module("cp_measure.bulk")
    except ImportError as error:
        raise BadImage('CellProfiler\'s measures need cp_measure: pip install "pellucid[morphology]"') from error
    found: Mapping[str, Callable[..., Any]] = (
        bulk.get_core_measurements() if len(record.spatial) == 2 else bulk.get_core_measurements_3d()
    )
    return found


def _named(
    measure: Callable[..., Any], labels: NDArray[np.int64], field: NDArray[np.float64], prefix: str, suffix: str
) -> dict[str, pa.Array]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # empty rings are null below
        found = measure(labels, field)
    return {
        (name if not prefix or name.startswith(prefix) else f"{prefix}_{name}") + suffix: pa.array(
            np.asarray(values, dtype=np.float64), from_pandas=True
        )
        for name, values in found.items()
    }
