"""What a study can be written as, and the one way to write it: whole or not at all."""

import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

from pellucid.attribution import METHODS
from pellucid.errors import BadRecipe, BadStudy
from pellucid.show.exports.anndata_file import write_anndata
from pellucid.show.exports.content import Content
from pellucid.show.exports.dicom import write_dicom
from pellucid.show.exports.napari_script import write_napari
from pellucid.show.exports.nifti import write_nifti
from pellucid.show.exports.ome_tiff import write_ome_tiff
from pellucid.show.exports.ome_zarr import write_ome_zarr
from pellucid.show.exports.qupath import write_qupath
from pellucid.show.exports.tables import write_csv
from pellucid.study import Study

__all__ = ["EXPORTS", "Export", "write_export"]

_NOTE = "export.json"


@dataclass(frozen=True)
class Export:
    """One way to write a study.

    Attributes
    ----------
    name
        As ``--to`` takes it.
    write
        Writes into an empty folder.
    needs
        The package it cannot do without, or "".
    extra
        The extra of pellucid that brings it.
    """

    name: str
    write: Callable[[Content, Path], None]
    needs: str = ""
    extra: str = ""


EXPORTS = {
    export.name: export
    for export in (
        Export("ome-zarr", write_ome_zarr),
        Export("ome-tiff", write_ome_tiff),
        Export("nifti", write_nifti, "nibabel", "medical"),
        Export("dicom", write_dicom, "highdicom", "medical"),
        Export("qupath", write_qupath),
        Export("csv", write_csv),
        Export("anndata", write_anndata, "anndata", "anndata"),
        Export("napari", write_napari),
    )
}
"""By name."""


def write_export(
    study: Study,
    to: str,
    out: Path | None = None,
    *,
    ids: Sequence[str] | None = None,
    methods: Sequence[str] | None = None,
) -> Path:
    """Write a study for another program.

    Parameters
    ----------
    study
        A study that ran to its end.
    to
        A name of `EXPORTS`.
    out
        The folder; default ``exports/NAME`` in the study's directory. An earlier export in it is replaced.
    ids
        Images; default all explained ones.
    methods
        Methods; default all but the controls.

    Returns
    -------
    Path
        The folder. Its ``export.json`` says what the numbers are.

    Raises
    ------
    BadStudy
        When the format, an image or a method is unknown, a package is missing, the study has no scores yet, the format cannot
        hold such images, or the folder holds something else.
    """
    export = EXPORTS.get(to)
    if export is None:
        raise BadStudy(f"there is no export {to!r}; there are {', '.join(EXPORTS)}")
    if export.needs and find_spec(export.needs) is None:
        raise BadStudy(f"export to {to} needs {export.needs}: pip install 'pellucid[{export.extra}]'")
    content = Content(study, _images(study, ids), _methods(study, methods))
    folder = study.path / "exports" / to if out is None else out
    if folder.exists() and not (folder / _NOTE).is_file() and (not folder.is_dir() or any(folder.iterdir())):
        raise BadStudy(f"{folder} holds something that is no export; choose another --out")
    _whole(export, content, folder)
    return folder


def _whole(export: Export, content: Content, folder: Path) -> None:
    """Write beside the folder and put it in place when all is there."""
    partial = folder.with_name(f".{folder.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        export.write(content, partial)
        told = {"format": export.name, **content.about}
        (partial / _NOTE).write_text(json.dumps(told, indent=1, ensure_ascii=False), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _images(study: Study, ids: Sequence[str] | None) -> tuple[str, ...]:
    scored = set(study.scores.table["image"].to_pylist())
    if ids is None:
        return tuple(image for image in study.mapped if image in scored)
    explained = set(study.mapped)
    for image in ids:
        if image not in explained:
            raise BadStudy(
                f"{image!r} is not among the {len(explained)} images of {study.path} whose maps are kept in full"
            )
    return tuple(dict.fromkeys(ids))


def _methods(study: Study, methods: Sequence[str] | None) -> tuple[str, ...]:
    if methods is None:
        return tuple(text for text in study.methods if not METHODS.parse(text).taxonomy.is_control)
    return tuple(dict.fromkeys(_known(study, text) for text in methods))


def _known(study: Study, text: str) -> str:
    try:
        spelt = str(METHODS.parse(text))
    except BadRecipe as error:
        raise BadStudy(str(error)) from None
    if spelt not in study.methods:
        raise BadStudy(f"{study.path} has no maps of {spelt}; it has {', '.join(study.methods)}")
    return spelt
