"""A study that needs nothing but its directory: images, slides and model are copied into it and the study file points at the copies."""

import os
import shutil
from pathlib import Path
from typing import Any

from pellucid.study.setup import Setup
from pellucid.study.store import Store, writing

__all__ = ["bundle"]


def bundle(root: str | Path) -> tuple[Path, ...]:
    """Copy the images, the slides and the weights of a study into its directory; what is there already stays.

    Parameters
    ----------
    root
        The study's directory.

    Returns
    -------
    tuple of Path
        What was copied.

    Raises
    ------
    BadStudy
        When the directory holds no study, or it cannot be written.
    """
    store = Store(Path(root))
    config = Setup.open(store.root).config
    wanted = (
        ("images", "path", config.images.path, "images"),
        ("model", "weights", config.model.weights, "model"),
        ("slide", "path", None if config.slide is None else config.slide.path, "slides"),
    )
    copied = []
    with writing(store.root), store.locked():
        settings = store.settings()
        for table, key, source, folder in wanted:
            if source is not None and not source.is_relative_to(store.root.resolve()):
                place = store.root / folder / source.name
                _copy(source, place)
                settings[table] = {**settings[table], key: place.relative_to(store.root).as_posix()}
                copied.append(place)
        if copied:
            store.write_settings(settings)
    return tuple(copied)


def _copy(source: Path, place: Path) -> None:
    """Copy a file or a folder under a temporary name and put it in place whole."""
    partial = place.with_name(f".{place.name}.{os.getpid()}.copy")
    place.parent.mkdir(parents=True, exist_ok=True)
    made: Any = shutil.copytree if source.is_dir() else shutil.copy2
    made(source, partial)
    if place.is_dir():
        shutil.rmtree(place)
    partial.replace(place)
