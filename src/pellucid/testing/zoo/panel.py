"""Settings of every built-in method that are small enough for a whole matrix, and few enough to be exact."""

from collections.abc import Mapping
from types import MappingProxyType

from pellucid.attribution import METHODS, Method

__all__ = ["SMALL", "small"]

SMALL: Mapping[str, str] = MappingProxyType({
    "ablation": 'ablation(segments="channels")',
    "deep_shap": 'deep_shap(background=("zero", "mean"))',
    "deep_taylor": "deep_taylor(low=-9.0, high=9.0)",
    "expected_gradients": "expected_gradients(samples=6)",
    "extremal_perturbation": "extremal_perturbation(areas=(0.2,), steps=8)",
    "guided_ig": "guided_ig(steps=16)",
    "hsic": "hsic(grid=2, samples=24)",
    "kernel_shap": 'kernel_shap(segments="channels", samples=300)',
    "lime": 'lime(segments="channels", samples=24)',
    "occlusion": "occlusion(window=5, stride=3)",
    "owen": "owen(segments=6, groups=2, samples=4)",
    "rise": "rise(samples=16, grid=3)",
    "shapley_sampling": 'shapley_sampling(segments="channels", samples=8)',
    "smoothgrad": "smoothgrad(samples=4)",
    "sobol": "sobol(grid=2, samples=4)",
    "vargrad": "vargrad(samples=4)",
})  # fmt: skip
"""Texts of the methods that would cost much by default, or cannot do without a setting."""


def small(name: str) -> Method:
    """Return the method of that name at small settings; one that is not listed comes with its defaults."""
    return METHODS.parse(SMALL.get(name, name))
