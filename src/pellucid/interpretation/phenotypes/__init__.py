"""Measured biology from a generator: phenotypes are moved on real images, measured again, and the model is read."""

from pellucid.interpretation.phenotypes.atlas import Atlas
from pellucid.interpretation.phenotypes.basis import Basis
from pellucid.interpretation.phenotypes.calls import CALLED
from pellucid.interpretation.phenotypes.causes import LatentCauses, latent_causes
from pellucid.interpretation.phenotypes.court import Court, court
from pellucid.interpretation.phenotypes.disentangle import disentanglement
from pellucid.interpretation.phenotypes.dose import DOSES, DoseResponse, dose_response
from pellucid.interpretation.phenotypes.latents import latent_phenotypes
from pellucid.interpretation.phenotypes.learnt import LEAST_SKILL, skill
from pellucid.interpretation.phenotypes.necessity import Necessity, necessity
from pellucid.interpretation.phenotypes.separable import Cluster, clusters
from pellucid.interpretation.phenotypes.space import Space

__all__ = [
    "CALLED", "DOSES", "LEAST_SKILL", "Atlas", "Basis", "Cluster", "Court", "DoseResponse", "LatentCauses", "Necessity", "Space", "clusters", "court",
    "disentanglement", "dose_response", "latent_causes", "latent_phenotypes", "necessity", "skill",
]  # fmt: skip
