"""A study: a directory that can be killed, resumed, moved, re-run from itself and read in ten years."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa

from pellucid.errors import BadStudy
from pellucid.study.config import read_config
from pellucid.study.identity import has_begun, manifest_digest, refuse_changes, resolved, versions
from pellucid.study.results import Results
from pellucid.study.runner import run_study
from pellucid.study.setup import Setup, open_images
from pellucid.study.store import FORMAT, Store
from pellucid.study.writing import writing

__all__ = ["Study"]


class Study(Results):
    """One study on disk: run it, read what it found, write its report.

    Parameters
    ----------
    path
        The study's directory, as `Study.create` or ``pellucid run`` made it.
    trust
        Consent to execute what the model's file or factory holds.

    Raises
    ------
    BadStudy
        When the directory holds no study, or its file was changed by hand into something that cannot be used.
    """

    def __init__(self, path: str | Path, *, trust: bool = False) -> None:
        super().__init__(Setup.open(Path(path), trust=trust))

    @classmethod
    def create(
        cls, toml: str | Path, out: str | Path, *, data: str | Path | None = None, trust: bool = False
    ) -> "Study":
        """Make a study of a study file, or open the one that is there for the same file.

        Parameters
        ----------
        toml
            The study file.
        out
            The directory; made when missing.
        data
            Folder of the images, in place of ``images.path``.
        trust
            Consent to execute what the model's file or factory holds.

        Raises
        ------
        BadStudy, BadImage
            When the file or the images cannot be used, or `out` holds something else: another study whose choices
            differ, which would mix numbers that cannot be compared.
        """
        config, _ = read_config(toml, data=data)
        store = Store(Path(out))
        store.refuse_foreign(Path(toml))
        images = open_images(config.images, config.model.classes)
        wanted = resolved(config, store.root)
        wanted["provenance"] = {"format": FORMAT, "images": manifest_digest(images), "versions": versions()}
        with writing(store.root):
            store.root.mkdir(parents=True, exist_ok=True)
            with store.locked():
                _begin(store, wanted)
        return cls(store.root, trust=trust)

    def run(self, *, progress: bool = False, workers: int = 1, scheduler: str | None = None) -> pa.Table:
        """Run what is missing; a study that was killed goes on where it stood and ends bitwise equal.

        Parameters
        ----------
        progress
            Whether to show bars.
        workers
            Processes on this machine.
        scheduler
            Address of a Dask scheduler, in place of `workers`.

        Returns
        -------
        pyarrow.Table
            What failed: image, method, metric, stage, sentence; no rows when all is well.

        Raises
        ------
        PellucidError
            When the study cannot begin or go on; what is finished is kept.
        """
        begun = self._store.settings()["provenance"]
        if begun["images"] != manifest_digest(self.images):
            raise BadStudy(f"the images or labels changed since {self.path} began; choose another --out")
        failures = run_study(self._setup, progress=progress, workers=workers, scheduler=scheduler)
        self._forget()
        return failures

    def report(self) -> Path:
        """Write ``report.html`` and return where it is.

        Raises
        ------
        BadStudy
            When the study is not finished.
        """
        # The one arrow that points back: the report reads a study, and a study offers to write its report.
        from pellucid.show import write_report  # noqa: PLC0415

        path = self.path / "report.html"
        write_report(self, path)
        return path

    def export(
        self,
        to: str,
        out: str | Path | None = None,
        *,
        ids: Sequence[str] | None = None,
        methods: Sequence[str] | None = None,
    ) -> Path:
        """Write images, maps, masks and numbers for another program, and return the folder.

        Parameters
        ----------
        to
            ``"ome-zarr"``, ``"ome-tiff"``, ``"nifti"``, ``"dicom"``, ``"qupath"``, ``"csv"``, ``"anndata"`` or ``"napari"``.
        out
            The folder; default ``exports/NAME`` in the study's directory. An earlier export in it is replaced.
        ids
            Images; default all explained ones.
        methods
            Methods; default all but the controls.

        Raises
        ------
        BadStudy
            When that cannot be written, for one of the reasons that its sentence gives.
        """
        from pellucid.show import write_export  # noqa: PLC0415  # as the report: pictures know a study

        return write_export(self, to, None if out is None else Path(out), ids=ids, methods=methods)

    def __repr__(self) -> str:
        return f"Study({str(self.path)!r})"


def _begin(store: Store, wanted: dict[str, Any]) -> None:
    """Write the resolved study file, unless the directory holds results that it does not fit."""
    begun = store.settings() if store.study_file.is_file() else {}
    if has_begun(store, begun):
        refuse_changes(store.root, begun, wanted)
        wanted |= {name: begun[name] for name in ("plan", "provenance") if name in begun}
    store.write_settings(wanted)
