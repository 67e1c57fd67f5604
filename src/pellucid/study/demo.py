"""The demonstration: a phantom with known truth, and the study file that explains a model of it."""

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pellucid.errors import BadStudy
from pellucid.images.phantoms import Phantom, Shortcut, cells, grains
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.toml import spelt_toml

__all__ = ["write_demo"]


@dataclass(frozen=True)
class _Size:
    """How much a demonstration does: sized for a laptop with two cores, robustness being the dear part."""

    images: int
    epochs: int
    explained: int
    edited: int
    samples: int
    steps: int
    repeats: int
    stages: int
    learning: int

    def settings(self) -> dict[str, str]:
        """Return the recipes that are not taken as the panels have them."""
        sampled = {name: f"{name}(samples={self.samples})" for name in ("lime", "kernel_shap", "rise")}
        return sampled | {
            "max_sensitivity": f"max_sensitivity(samples={self.repeats})",
            "smoothgrad": f"smoothgrad(samples={self.steps})",
            "integrated_gradients": f"integrated_gradients(steps={self.steps})",
            "parameter_randomisation": f"parameter_randomisation(stages={self.stages})",
        }  # fmt: skip


_FULL = _Size(images=800, epochs=25, explained=40, edited=20, samples=256, steps=32, repeats=4, stages=3, learning=2400)
_QUICK = _Size(images=400, epochs=15, explained=24, edited=22, samples=128, steps=16, repeats=2, stages=1, learning=600)


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
        Whether a tag beside the object betrays a class.
    quick
        Fewer images, shorter training and cheaper settings.
    seed
        Of everything.

    Raises
    ------
    BadStudy
        When `out` holds another demonstration.
    """
    folder = out / "phantom"
    made = _phantom(phantom, shortcut=shortcut, count=(_QUICK if quick else _FULL).images, seed=seed)
    text = _study_file(phantom, made, shortcut=shortcut, quick=quick, seed=seed)
    written = folder / "study.toml"
    if written.is_file():
        if written.read_text(encoding="utf-8") != text:
            raise BadStudy(f"{out} holds another demonstration; choose another --out")
        return written
    if out.is_dir() and any(path.name not in {"phantom", "phantom.partial"} for path in out.iterdir()):
        raise BadStudy(f"{out} is not empty and holds no demonstration; choose another --out")
    partial = out / "phantom.partial"
    shutil.rmtree(partial, ignore_errors=True)
    made.write(partial)
    (partial / "study.toml").write_text(text, encoding="utf-8")
    partial.replace(folder)
    return written


def _phantom(name: str, *, shortcut: bool, count: int, seed: int) -> Phantom:
    make = cells if name == "cells" else grains
    return make(count, seed=seed, shortcut=Shortcut() if shortcut else None)


def _study_file(phantom: str, made: Phantom, *, shortcut: bool, quick: bool, seed: int) -> str:
    told = (
        f"# A phantom study: {phantom}{' with a planted shortcut' if shortcut else ''}. Copy and change it at will.\n"
    )
    size = _QUICK if quick else _FULL
    settings = size.settings()
    methods, metrics = ([settings.get(name, name) for name in panel] for panel in (METHOD_PANEL, METRIC_PANEL))
    return told + spelt_toml(
        {
            "seed": seed,
            "images": {
                "path": ".", "labels": "labels.csv", "masks": ["object", "truth"], "object": "object",
                "split": "split", "group": "group", "spacing": list(made.images.record.spacing or ()),
            },
            "fit": {"epochs": size.epochs},
            "explain": {"methods": methods, "images": size.explained, "require_mask": phantom == "grain"},
            "evaluate": {"metrics": metrics, "mask": "truth"},
            "calibrate": {"images": size.edited},
            "counterfactual": {"generator": f"faithful_autoencoder(steps={size.learning}, flips=False)", "images": 4},
        }
    )  # fmt: skip
