"""The demonstration: a phantom with known truth, and the study file that explains a model of it."""

import shutil
from pathlib import Path
from typing import Literal

from pellucid.errors import BadStudy
from pellucid.images.phantoms import Phantom, Shortcut, cells, grains
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.toml import spelt_toml

__all__ = ["write_demo"]

_CHEAPER = {
    "smoothgrad": "smoothgrad(samples=8)",
    "integrated_gradients": "integrated_gradients(steps=16)",
    "lime": "lime(samples=128)",
    "kernel_shap": "kernel_shap(samples=128)",
    "rise": "rise(samples=128)",
}
_DEARER = ("local_lipschitz", "max_sensitivity", "parameter_randomisation")


def write_demo(
    out: Path,
    *,
    phantom: Literal["cells", "grain"] = "cells",
    shortcut: bool = False,
    quick: bool = False,
    seed: int = 0,
) -> Path:
    """Write a phantom and its study file into ``out/phantom``, once, and return the study file.

    Parameters
    ----------
    out
        Folder of the demonstration; the study itself goes there too.
    phantom
        ``"cells"``: the label follows from the number of spots; ``"grain"``: kernels with lesions.
    shortcut
        Whether a tag beside the cell betrays the label.
    quick
        Fewer images, shorter training and cheaper settings.
    seed
        Of everything.

    Raises
    ------
    BadStudy
        When a shortcut is asked of a phantom that has none, or `out` holds another demonstration.
    """
    folder = out / "phantom"
    text = _study_file(phantom, shortcut=shortcut, quick=quick, seed=seed)
    written = folder / "study.toml"
    if written.is_file():
        if written.read_text(encoding="utf-8") != text:
            raise BadStudy(f"{out} holds another demonstration; choose another --out")
        return written
    if out.is_dir() and any(path.name not in {"phantom", "phantom.partial"} for path in out.iterdir()):
        raise BadStudy(f"{out} is not empty and holds no demonstration; choose another --out")
    partial = out / "phantom.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _phantom(phantom, shortcut=shortcut, count=400 if quick else 1000, seed=seed).write(partial)
    (partial / "study.toml").write_text(text, encoding="utf-8")
    partial.replace(folder)
    return written


def _phantom(name: str, *, shortcut: bool, count: int, seed: int) -> Phantom:
    if name == "cells":
        return cells(count, seed=seed, shortcut=Shortcut() if shortcut else None)
    if shortcut:
        raise BadStudy("the grain phantom has no shortcut; use --phantom cells")
    return grains(count, seed=seed)


def _study_file(phantom: str, *, shortcut: bool, quick: bool, seed: int) -> str:
    told = (
        f"# A phantom study: {phantom}{' with a planted shortcut' if shortcut else ''}. Copy and change it at will.\n"
    )
    methods = [_CHEAPER.get(name, name) for name in METHOD_PANEL] if quick else list(METHOD_PANEL)
    metrics = [name for name in METRIC_PANEL if not (quick and name in _DEARER)]
    return told + spelt_toml(
        {
            "seed": seed,
            "images": {
                "path": ".", "labels": "labels.csv", "masks": ["object", "truth"], "object": "object",
                "split": "split", "group": "group",
            },
            "fit": {"epochs": 15 if quick else 30},
            "explain": {"methods": methods, "images": 24 if quick else 60, "require_mask": phantom == "grain"},
            "evaluate": {"metrics": metrics, "mask": "truth"},
        }
    )  # fmt: skip
