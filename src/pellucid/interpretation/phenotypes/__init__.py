"""Measured biology from a generator: phenotypes are moved on real images, measured again, and the model is read."""

from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.dose import DOSES, DoseResponse, dose_response
from pellucid.interpretation.phenotypes.necessity import Necessity, necessity
from pellucid.interpretation.phenotypes.separable import Cluster, clusters
from pellucid.interpretation.phenotypes.space import Space

__all__ = ["DOSES", "Atlas", "Cluster", "DoseResponse", "Necessity", "Space", "clusters", "dose_response", "necessity"]
