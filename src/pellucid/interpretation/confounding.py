"""Find classes tied to a group of images, so that association alone cannot tell the two apart."""

from collections import defaultdict

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import balanced_accuracy_score
from sklearn.model_selection import GroupKFold, StratifiedKFold, cross_val_predict
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from pellucid.interpretation.evidence import Case, Evidence
from pellucid.interpretation.finding import Finding

__all__ = ["background_probe", "find_confounders"]


def background_probe(cases: list[Case], seed: int) -> tuple[float, float]:
    """Return the balanced accuracy of the class from the mean and spread of the background's colour alone, and chance.

    A logistic regression, predicted out of sample; whole groups are left out where every class has several.
    """
    colour = np.array([_background_colour(case) for case in cases])
    labels = np.array([case.label for case in cases])
    groups = np.array([case.group for case in cases])
    spread = all(len(set(groups[labels == label])) > 2 for label in set(labels))
    folds = GroupKFold(3) if spread else StratifiedKFold(3, shuffle=True, random_state=seed)
    probe = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000, class_weight="balanced"))
    predicted = cross_val_predict(probe, colour, labels, groups=groups, cv=folds)
    return float(balanced_accuracy_score(labels, predicted)), 1 / len(set(labels))


def _background_colour(case: Case) -> np.ndarray:
    outside = case.image[:, ~case.outline]
    return np.concatenate([outside.mean(1).numpy(), outside.std(1).numpy()])


def find_confounders(evidence: Evidence) -> list[Finding]:
    """Name each class that shares no group with any other class although the others share theirs.

    Such a class cannot be told from its groups by association: only tests that edit the image can.
    """
    if evidence.group is None or evidence.images.labels is None:
        return []
    ids = evidence.predictions["image"].to_pylist()
    homes: dict[int, set[str]] = defaultdict(set)
    for label, group in zip(evidence.images.label(ids), evidence.groups(ids), strict=True):
        homes[label].add(group)
    alone = [
        label
        for label in sorted(homes)
        if not homes[label] & set().union(*(homes[other] for other in homes if other != label))
    ]
    if not alone or len(alone) == len(homes):
        return []
    cases = evidence.cases(400)
    probe = _probe_sentence(cases, evidence.seed)
    findings = []
    for label in alone:
        name = evidence.images.classes[label]
        findings.append(Finding(
            id=f"confounder-{name}",
            kind="confounder",
            subject=name,
            statement=f"Class {name} shares no {evidence.group} with any other class, while the others share theirs: what "
            f"belongs to the class and what belongs to its {evidence.group}s (light, stain, instrument) cannot be told "
            "apart by association in these images.",
            evidence=f"{len(homes[label])} {evidence.group}s hold {name} and nothing else among {len(ids)} images.{probe}",
        ))  # fmt: skip
    return findings


def _probe_sentence(cases: list[Case], seed: int) -> str:
    labels = [case.label for case in cases]
    if len(set(labels)) < 2 or min(labels.count(label) for label in set(labels)) < 6:
        return ""
    accuracy, chance = background_probe(cases, seed)
    return (f" The mean colour outside the object alone gives the class with balanced accuracy {accuracy:.2f} "
            f"(chance {chance:.2f}, {len(cases)} images, out of sample).")  # fmt: skip
