"""The perturbation engine: attribution = fitter(sampler's coalitions, model on fill(segmenter))."""

from pellucid.attribution.perturbation.lime import lime
from pellucid.attribution.perturbation.occlusion import ablation, occlusion
from pellucid.attribution.perturbation.rise import rise
from pellucid.attribution.perturbation.segmenters import Labels, Segmentation, segment
from pellucid.attribution.perturbation.shapley import kernel_shap

__all__ = ["Labels", "Segmentation", "ablation", "kernel_shap", "lime", "occlusion", "rise", "segment"]
