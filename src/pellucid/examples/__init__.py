"""Examples: cases that the model holds to be alike, what makes them so, and the few that stand for a class."""

from pellucid.examples.distances import Distance, binary_codes, distances
from pellucid.examples.neighbours import RELATIONS, Neighbours, Precision, similar_cases
from pellucid.examples.pose import Pose, posed_features
from pellucid.examples.prototypes import Prototypes, activation_precision, likeness_maps, prototypes
from pellucid.examples.similarity import explain_similarity

__all__ = [
    "RELATIONS", "Distance", "Neighbours", "Pose", "Precision", "Prototypes", "activation_precision", "binary_codes",
    "distances", "explain_similarity", "likeness_maps", "posed_features", "prototypes", "similar_cases",
]  # fmt: skip
