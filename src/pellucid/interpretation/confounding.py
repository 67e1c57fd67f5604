"""Find classes tied to a group of images, so that association alone cannot tell the two apart."""

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding

__all__ = ["background_probe", "classes_apart", "find_confounders"]

_MOSTLY = 0.5
"""Part of the other classes' images that must lie in a group of several classes before a class alone stands out."""


def background_probe(cases: Sequence[Case], seed: int) -> tuple[float, float]:
    """Return the balanced accuracy of the class from the mean and spread of the background's colour alone, and chance.

    A logistic regression, predicted out of sample; whole groups are left out where every class has several.
    """
    colour = np.array([_background_colour(case) for case in cases])
    labels = np.array([case.label for case in cases])
    groups = np.array([case.group for case in cases])
    spread = all(len(set(groups[labels == label])) > 2 for label in set(labels))
    fold = StratifiedGroupKFold if spread else StratifiedKFold
    folds = fold(3, shuffle=True, random_state=seed).split(colour, labels, groups if spread else None)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    predicted = cross_val_predict(probe, colour, labels, cv=list(folds))
    return float(balanced_accuracy_score(labels, predicted)), 1 / len(set(labels))


def _background_colour(case: Case) -> NDArray[np.float64]:
    outside = case.image[:, ~case.outline]
    return np.concatenate([outside.mean(1).numpy(), outside.std(1).numpy()])


def find_confounders(evidence: Evidence) -> list[Finding]:
    """Name each class that shares no group with any other class although groups of the others mostly hold several.

    Such a class cannot be told from its groups by association: only tests that edit the image can. Where every group
    holds one class (patients of one diagnosis each) nothing is named, and groups of one image, which cannot share,
    have no say.
    """
    alone, groups = classes_apart(evidence), _held(evidence)
    if not alone:
        return []
    probe = _probe_sentence(evidence.cases(400), evidence.seed)
    return [_confounder(evidence, label, groups, probe) for label in alone]


def classes_apart(evidence: Evidence) -> list[int]:
    """Return the classes that share no group with any other, while most images of the others share theirs."""
    groups = _held(evidence)
    return [label for label in sorted({label for held in groups.values() for label in held}) if _alone(label, groups)]


def _held(evidence: Evidence) -> dict[str, Counter[int]]:
    if evidence.group is None or evidence.images.labels is None:
        return {}
    ids = evidence.predictions["image"].to_pylist()
    return _shareable(evidence.images.label(ids), evidence.groups(ids))


def _shareable(labels: Sequence[int], groups: Sequence[str]) -> dict[str, Counter[int]]:
    """Return how many images of each class every group of two images or more holds."""
    held: dict[str, Counter[int]] = defaultdict(Counter)
    for label, group in zip(labels, groups, strict=True):
        held[group][label] += 1
    return {group: counts for group, counts in held.items() if counts.total() > 1}


def _alone(label: int, groups: Mapping[str, Counter[int]]) -> bool:
    """Say whether a class shares no group while most of the other classes' images lie in a group of several classes."""
    if any(label in counts and len(counts) > 1 for counts in groups.values()):
        return False
    others = [counts for counts in groups.values() if label not in counts]
    mixed = sum(counts.total() for counts in others if len(counts) > 1)
    return mixed > _MOSTLY * sum(counts.total() for counts in others)


def _confounder(evidence: Evidence, label: int, groups: Mapping[str, Counter[int]], probe: str) -> Finding:
    name, unit = evidence.images.classes[label], evidence.group
    own = [counts.total() for counts in groups.values() if label in counts]
    return Finding(
        id=f"confounder-{name}",
        kind="confounder",
        subject=name,
        statement=f"Class {name} shares no {unit} with any other class, while most images of the others share theirs: what "
        f"belongs to the class and what belongs to its {unit}s (light, stain, instrument) cannot be told apart by "
        "association in these images.",
        evidence=f"{len(own)} {unit}s of two images or more hold {name} ({sum(own)} images) and nothing else.{probe}",
    )


def _probe_sentence(cases: Sequence[Case], seed: int) -> str:
    labels = [case.label for case in cases]
    if len(set(labels)) < 2 or min(labels.count(label) for label in set(labels)) < 6:
        return ""
    accuracy, chance = background_probe(cases, seed)
    return (f" The mean colour outside the object alone gives the class with balanced accuracy {accuracy:.2f} "
            f"(chance {chance:.2f}, {len(cases)} images, out of sample).")  # fmt: skip
