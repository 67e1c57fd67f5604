"""Attribution: two engines, and the recipes that name them."""

from pellucid.attribution import (  # noqa: F401
    attention,
    attn_lrp,
    blur_path,
    cam,
    cam_channels,
    cam_eigen,
    controls,
    deep_shap,
    deep_taylor,
    deeplift,
    deeplift_reveal_cancel,
    excitation,
    expected,
    expressive,
    gradient,
    guided_path,
    lrp,
    path,
    pattern_methods,
    perturbation,
    rectified,
    reference_images,
)
from pellucid.attribution.activation_maps import ActivationMaps, activation_maps
from pellucid.attribution.combine import Combined, combine
from pellucid.attribution.estimate import Estimate, estimate
from pellucid.attribution.explain import explain, explain_targets
from pellucid.attribution.explanation import Explanation
from pellucid.attribution.fills import FILLS
from pellucid.attribution.method import METHODS, Attribution, Call, Method, Taxonomy, methods
from pellucid.attribution.objects import object_table
from pellucid.attribution.pattern_fit import fit_patterns
from pellucid.attribution.patterns import Patterns
from pellucid.attribution.perturbation import GlobalAblation, global_ablation
from pellucid.attribution.reference_sensitivity import ReferenceSensitivity, reference_sensitivity
from pellucid.attribution.steps import STEPS, Step

__all__ = [
    "FILLS", "METHODS", "STEPS", "ActivationMaps", "Attribution", "Call", "Combined", "Estimate", "Explanation",
    "GlobalAblation", "Method", "Patterns", "ReferenceSensitivity", "Step", "Taxonomy", "activation_maps", "combine",
    "estimate", "explain", "explain_targets", "fit_patterns", "global_ablation", "methods", "object_table",
    "reference_images", "reference_sensitivity",
]  # fmt: skip
