"""What ``"panel"`` stands for."""

__all__ = ["METHOD_PANEL", "METRIC_PANEL"]

METHOD_PANEL = (
    "saliency",
    "input_x_gradient",
    "smoothgrad",
    "integrated_gradients",
    "guided_backprop",
    "deeplift",
    'lrp(composite="epsilon_plus_flat")',
    "gradcam",
    "occlusion",
    "lime",
    "kernel_shap",
    "rise",
)
"""Every family of attribution, each by its commonest member."""

METRIC_PANEL = (
    "faithfulness_correlation",
    "sensitivity_n",
    "pixel_flipping",
    "insertion",
    "deletion",
    "max_sensitivity",
    "local_lipschitz",
    "parameter_randomisation",
    "completeness_gap",
    "relevance_mass",
    "relevance_rank",
    "pointing_game",
    "localisation_auc",
    "sparseness",
    "complexity",
    "rank_agreement",
)
"""Faithfulness, robustness, randomisation, axioms, localisation, complexity and agreement."""
