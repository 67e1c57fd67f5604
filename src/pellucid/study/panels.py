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
    "infidelity",
    "pixel_flipping",
    "insertion",
    "sufficiency",
    "max_sensitivity",
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
"""Faithfulness, robustness, randomisation, axioms, localisation, complexity and agreement.

Chosen by cost and by what each adds. Not here: ``deletion`` and ``local_lipschitz``, which order methods as
``pixel_flipping`` and ``max_sensitivity`` do and would share their vote; ``road``, ``irof``, ``selectivity`` and
``random_logit``, each of which costs as much as several others together: ask for them by name. ``infidelity`` and
``sufficiency`` cost no more than ``faithfulness_correlation``.
"""
