"""AnnData: one observation an image, one variable a phenotype, score or share of relevance; embeddings where the model names a layer."""

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from pellucid.measure.phenotype import columns
from pellucid.models import Passes
from pellucid.show.exports.content import Array, Content
from pellucid.show.exports.tables import Row, image_rows, object_rows

__all__ = ["write_anndata"]

_METADATA = "Metadata_"


def write_anndata(content: Content, folder: Path) -> None:
    """Write ``study.h5ad``: NaN where a number does not exist; ``obsm["X_embedding"]`` is what the model's own features say."""
    anndata: Any = import_module("anndata")
    pandas: Any = import_module("pandas")  # comes with anndata
    measured, units = _phenotypes(content), _units(content)
    rows = {image: row | measured.get(image, {}) for image, row in image_rows(content)}
    known = list(dict.fromkeys(name for row in rows.values() for name in row))
    told, names = (
        [name for name in known if name.startswith(_METADATA)],
        [name for name in known if not name.startswith(_METADATA)],
    )
    values = np.array([[_number(rows[image].get(name)) for name in names] for image in content.ids])
    obs = pandas.DataFrame(
        {name.removeprefix(_METADATA): [rows[image].get(name) for image in content.ids] for name in told},
        index=list(content.ids),
    )
    var = pandas.DataFrame({"kind": [name.split("_")[0] for name in names], "unit": [units.get(name, "") for name in names]},
                           index=names)  # fmt: skip
    found = anndata.AnnData(X=values, obs=_plain(obs), var=var, uns={"pellucid": _flat(content.about)})
    embedding = _embedding(content)
    if embedding is not None:
        found.obsm["X_embedding"] = embedding
    with anndata.settings.override(allow_write_nullable_strings=True):  # what pandas 3 makes of texts
        found.write_h5ad(folder / "study.h5ad")


def _number(value: Any) -> float:
    return float("nan") if value is None else float(value)


def _units(content: Content) -> dict[str, str]:
    return {name: unit for name, (_, unit) in columns(content.record).items()}


def _phenotypes(content: Content) -> dict[str, Row]:
    """Return the mean phenotypes of the objects of each image, and how many there are."""
    found: dict[str, list[Row]] = {}
    for image, row in object_rows(content):
        found.setdefault(image, []).append({name: value for name, value in row.items() if name in _units(content)})
    return {image: {"Count_Objects": float(len(rows))} | _means(rows) for image, rows in found.items()}


def _means(rows: list[Row]) -> Row:
    means: Row = {}
    for name in rows[0]:
        known = [row[name] for row in rows if row[name] is not None]
        means[name] = float(np.mean(known)) if known else None
    return means


def _plain(frame: Any) -> Any:
    """Return the observations as numbers or texts, which is what the file format holds; nothing becomes an empty text."""
    for name in frame.columns:
        if frame[name].dtype == object:
            frame[name] = ["" if value is None else str(value) for value in frame[name]]
    return frame


def _flat(about: dict[str, Any]) -> dict[str, Any]:
    return {key: np.array(value) if isinstance(value, list) else value for key, value in about.items()}


def _embedding(content: Content) -> Array | None:
    """Return the model's features of each image ``(N, F)``, or None where the model names no layer for them."""
    study = content.study
    if study.model.embedding is None:
        return None
    size = study.settings["plan"]["batch_size"]
    rows = []
    with Passes(study.model, batch_size=size) as passes:
        for start in range(0, len(content.ids), size):
            inputs = study.model.prepare(study.images.tensor(content.ids[start : start + size]))
            rows.append(passes.outputs(inputs, layer=study.model.embedding).flatten(1).cpu().numpy())
    return np.concatenate(rows)
