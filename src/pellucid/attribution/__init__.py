"""Attribution: two engines, and the recipes that name them."""

from pellucid.attribution import (  # noqa: F401
    blur_path,
    cam,
    cam_channels,
    cam_eigen,
    controls,
    deep_shap,
    deep_taylor,
    deeplift,
    excitation,
    expected,
    gradient,
    guided_path,
    lrp,
    path,
    perturbation,
    rectified,
)
from pellucid.attribution.combine import Combined, combine
from pellucid.attribution.estimate import Estimate, estimate
from pellucid.attribution.explain import explain, explain_targets
from pellucid.attribution.explanation import Explanation
from pellucid.attribution.fills import FILLS
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy, methods
from pellucid.attribution.objects import object_table
from pellucid.attribution.perturbation import GlobalAblation, global_ablation
from pellucid.attribution.steps import STEPS, Step

__all__ = [
    "FILLS",
    "METHODS",
    "STEPS",
    "Attribution",
    "Call",
    "Combined",
    "Estimate",
    "Explanation",
    "GlobalAblation",
    "Method",
    "Step",
    "Taxonomy",
    "combine",
    "estimate",
    "explain",
    "explain_targets",
    "global_ablation",
    "methods",
    "object_table",
]
