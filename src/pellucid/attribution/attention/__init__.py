"""Attention methods: what a transformer's own attention says of where it looks."""

from pellucid.attribution.attention.chefer import chefer
from pellucid.attribution.attention.flow import attention_flow
from pellucid.attribution.attention.legrad import legrad
from pellucid.attribution.attention.maps import attention_maps
from pellucid.attribution.attention.rollout import attention_rollout

__all__ = ["attention_flow", "attention_maps", "attention_rollout", "chefer", "legrad"]
