"""The perturbation engine: attribution = fitter(sampler's coalitions, model on fill(segmenter))."""

from pellucid.attribution.perturbation.extremal import extremal_perturbation
from pellucid.attribution.perturbation.global_ablation import GlobalAblation, global_ablation
from pellucid.attribution.perturbation.hsic import hsic
from pellucid.attribution.perturbation.lime import lime
from pellucid.attribution.perturbation.occlusion import ablation, occlusion
from pellucid.attribution.perturbation.rise import rise
from pellucid.attribution.perturbation.sampling import owen, shapley_sampling
from pellucid.attribution.perturbation.segmenters import Labels, Segmentation, segment
from pellucid.attribution.perturbation.shapley import kernel_shap
from pellucid.attribution.perturbation.sobol import sobol

__all__ = [
    "GlobalAblation",
    "Labels",
    "Segmentation",
    "ablation",
    "extremal_perturbation",
    "global_ablation",
    "hsic",
    "kernel_shap",
    "lime",
    "occlusion",
    "owen",
    "rise",
    "segment",
    "shapley_sampling",
    "sobol",
]
