"""Concepts: what a layer tells of things that people name or measure, and whether the model's answer hangs on them."""

from pellucid.concepts.calls import class_targets
from pellucid.concepts.directions import DIRECTIONS, Direction
from pellucid.concepts.discovery import DiscoveredConcepts, Exemplar, discover_concepts
from pellucid.concepts.fairness import Fair, fair_sensitivity
from pellucid.concepts.features import layer_features, layer_maps, layer_slopes
from pellucid.concepts.layers import layers_over_depth
from pellucid.concepts.lesions import Lesions, unit_lesions
from pellucid.concepts.relevance import ConceptRelevance, concept_relevance, rcv, tcav
from pellucid.concepts.vocabulary import Concepts, measured_concepts, read_concepts

__all__ = [
    "DIRECTIONS", "ConceptRelevance", "Concepts", "Direction", "DiscoveredConcepts", "Exemplar", "Fair", "Lesions",
    "class_targets", "concept_relevance", "discover_concepts", "fair_sensitivity", "layer_features", "layer_maps", "layer_slopes",
    "layers_over_depth", "measured_concepts", "rcv", "read_concepts", "tcav", "unit_lesions",
]  # fmt: skip
