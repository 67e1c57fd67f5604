"""Sentences: what was asked, what stands out, how it was done and whom to cite; nothing that the study does not hold."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pellucid.attribution import METHODS
from pellucid.evaluation import METRICS, SelfTest
from pellucid.study import Study

__all__ = [
    "Citation",
    "Notice",
    "asked",
    "case_verdicts",
    "citations",
    "methods_paragraph",
    "notices",
    "selection",
    "self_test_told",
    "target_words",
    "untested",
    "verdict",
]

_WARNING = ("shortcut", "confounder", "not_localised", "gate")
_OF_METHODS = ("failed_sanity", "unstable", "below_control", "choice")
_VERDICTS = {
    "verdict-methods": "Which methods", "verdict-supports": "What the maps support",
    "verdict-limits": "What they do not",
}  # fmt: skip
_UNTESTED = ("refused",)

_TITLES = {
    "shortcut": "Shortcut", "confounder": "Confounder", "not_localised": "Not a matter of place", "gate": "Gate",
    "localised": "Place", "inseparable": "No single winner", "failed_sanity": "Failed sanity check", "unstable": "Unstable",
    "below_control": "No better than a control", "metric_failed": "Metric without a say", "refused": "Not tested",
    "interpretation": "Interpretation", "choice": "A choice", "leak": "What a hole gives away", "annotators": "Annotators",
    "concept": "Concept", "strategy": "Strategy",
}  # fmt: skip

PELLUCID = "The pellucid developers, pellucid {version}, Apache-2.0 software"


@dataclass(frozen=True)
class Notice:
    """A finding as the report shows it: ``"warning"``, ``"note"`` or ``"untested"``."""

    tone: str
    title: str
    statement: str
    evidence: str
    number: str


@dataclass(frozen=True)
class Citation:
    """What was used, and its source."""

    used: str
    source: str


def target_words(target: str | int) -> str:
    """Return what was explained, in words."""
    told = {"predicted": "the class that the model calls", "label": "the class of the label"}
    return told.get(str(target), f"{target}")


def selection(study: Study) -> str:
    """Return the rule by which the explained images were chosen."""
    rule = {
        "stratified": "each class and outcome (right, wrong) in its own proportion",
        "balanced": "the same number of each class and outcome as far as there are",
        "random": "without regard to class or outcome",
    }[study.config.explain.selection]
    among = study.predictions.num_rows
    masked = " that carry a mask" if study.config.explain.require_mask else ""
    count = len(study.chosen)
    if count == among:
        return f"all {count} held-out images"
    return f"{count} of {among} held-out images{masked}, {rule}, in the order of hash(seed, id)"


def rests_on(study: Study) -> str:
    """Return which images ranking and findings rest on where these are not all explained ones, or ""."""
    ranked, explained = len(study.ranked_images), len(study.chosen)
    if ranked == explained:
        return ""
    return (
        f"Every one of the {explained} explained images was scored; ranking, findings and figures rest on {ranked} of them, the "
        "first in the order of hash(seed, id), whatever they show."
    )


def asked(study: Study) -> list[tuple[str, str]]:
    """Return the three lines that say what the study was asked."""
    images, classes = study.images, study.model.classes or study.images.classes
    how = "reference network trained in this study" if study.config.fit is not None else "trained model that was given"
    shape = " × ".join(map(str, images.shape))
    controls = sum(_control(method) for method in study.methods)
    counts = f"{len(study.methods) - controls} methods and {controls} controls, {len(study.metrics)} metrics"
    asked_for = f"what drives {target_words(study.config.explain.target)}? {counts}"
    return [
        ("Model", f"{how}; {len(classes)} classes: {', '.join(classes)}"),
        ("Images", f"{len(images)} images of {shape} ({', '.join(images.record.axes)}); explained: {selection(study)}"),
        ("Question", asked_for),
    ]


def _control(method: str) -> bool:
    return METHODS.parse(method).taxonomy.is_control


def single_method(study: Study) -> str:
    """Return the one method that is no control, or "" where there are several."""
    real = [method for method in study.methods if not _control(method)]
    return real[0] if len(real) == 1 else ""


def notices(findings: Sequence[Mapping[str, Any]]) -> tuple[list[Notice], list[Notice]]:
    """Return the findings of the model, warnings first, and those of single methods."""
    findings = [finding for finding in findings if finding["kind"] != "verdict"]
    rank = {kind: place for place, kind in enumerate((*_WARNING, "interpretation", "localised", "inseparable"))}

    def place(finding: Mapping[str, Any]) -> int:
        """Put the gate of a question that was asked besides after what is said of the model."""
        besides = finding["kind"] == "gate" and finding["subject"] != "model"
        return len(rank) if besides else rank.get(finding["kind"], len(rank))

    ordered = sorted(findings, key=place)
    model = [_notice(finding) for finding in ordered if finding["kind"] not in _OF_METHODS]
    methods = [_notice(finding) for finding in ordered if finding["kind"] in _OF_METHODS]
    return model, methods


def verdict(findings: Sequence[Mapping[str, Any]]) -> list[Notice]:
    """Return the study's verdict: which methods to believe, and what their maps support and do not."""
    return [
        Notice("note", _VERDICTS.get(finding["id"], "Verdict"), finding["statement"], finding["evidence"], "")
        for finding in findings
        if finding["kind"] == "verdict"
    ]


def case_verdicts(study: Study) -> dict[str, str]:
    """Return the verdict of every explained image by its id, where the study has come to one."""
    found = study.tables.get("cases")
    return {} if found is None else {row["image"]: row["sentence"] for row in found.to_pylist()}


def self_test_told(tested: SelfTest) -> str:
    """Say how many metrics were tested before they judged, and on what."""
    rows = tested.table.to_pylist()
    if not rows:
        return ""
    words = {None: "gave no score to judge by and keep their say", False: "failed and have none"}
    counts = {told: sum(row["passed"] is passed for row in rows) for passed, told in words.items()}
    rest = "".join(f"; {count} {told}" for told, count in counts.items() if count)
    return (
        f"{len(rows)} metrics were tested on {max(row['images'] for row in rows)} of these images before they judged: {len(tested.passed)} "
        f"tell an exact map from random ones and stay steady on this model{rest}."
    )


def untested(study: Study) -> list[dict[str, Any]]:
    """Return what the interpretation could not do, so that no finding is not read as nothing found."""
    return [
        {"kind": "refused", "verdict": "undecided", "statement": "A test of what drives the model could not be run.",
         "evidence": row["sentence"], "value": None, "low": None, "high": None}
        for row in study.failures.to_pylist() if row["stage"] == "interpret" and not row["image"]
    ]  # fmt: skip


def _notice(finding: Mapping[str, Any]) -> Notice:
    kind, verdict = finding["kind"], finding["verdict"]
    tone = "warning" if kind in _WARNING and verdict == "supported" else "untested" if kind in _UNTESTED else "note"
    title = _TITLES.get(kind, kind.replace("_", " ").capitalize())
    told = "" if verdict == "supported" or kind in _UNTESTED else f" ({verdict})"
    return Notice(tone, title + told, finding["statement"], finding["evidence"], _interval(finding))


def _interval(finding: Mapping[str, Any]) -> str:
    value, low, high = (finding[name] for name in ("value", "low", "high"))
    if value is None:
        return ""
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def citations(study: Study) -> list[Citation]:
    """Return the source of every method and metric used, and of pellucid."""
    found = [Citation(method, METHODS.parse(method).taxonomy.reference) for method in study.methods]
    found += [Citation(metric, METRICS.parse(metric).profile.reference) for metric in study.metrics]
    return [*found, Citation("pellucid", PELLUCID.format(version=_version(study, "pellucid")))]


def _version(study: Study, name: str) -> str:
    return str(study.settings.get("provenance", {}).get("versions", {}).get(name, "of unknown version"))


def methods_paragraph(study: Study) -> str:
    """Return a paragraph for the methods section of a paper; every sentence follows from the study's settings."""
    return " ".join(sentence for sentence in (
        _about_model(study), _about_images(study), _about_methods(study), _about_scores(study), _about_software(study),
    ) if sentence)  # fmt: skip


def _about_model(study: Study) -> str:
    classes = study.model.classes or study.images.classes
    fit = study.config.fit
    made = "was given as trained weights" if fit is None else (
        f"was pellucid's reference residual network (width {fit.width}, depth {fit.depth}), trained for up to {fit.epochs} "
        f"epochs on the training split with early stopping (patience {fit.patience})"
    )  # fmt: skip
    told = f"A classifier of {len(classes)} classes ({', '.join(classes)}) {made}."
    return f"{told} {study.performance['summary']}" if study.performance else told


def _about_images(study: Study) -> str:
    config = study.config
    group = (
        f" Images of one {config.images.group} were kept in one split and resampled together."
        if config.images.group
        else ""
    )
    return (f"We explained {selection(study)} (seed {config.seed}); the explained output was "
            f"{target_words(config.explain.target)}.{group}")  # fmt: skip


def _about_methods(study: Study) -> str:
    real = [method for method in study.methods if not _control(method)]
    controls = [method for method in study.methods if _control(method)]
    told = [f"{method} ({METHODS.parse(method).taxonomy.reference})" for method in real]
    against = f" As controls that know nothing of the model we used {' and '.join(controls)}." if controls else ""
    return f"Attribution methods were {'; '.join(told)}; settings that are not named are pellucid's defaults.{against}"


def _about_scores(study: Study) -> str:
    if not study.metrics:
        return ""
    mask = f", masks: {', '.join(study.truth)}" if study.truth else ""
    draws = f" ({study.ranking.draws} draws)" if study.ranking.draws else ""
    return (
        f"Each map was scored with {', '.join(study.metrics)}{mask}. Methods were ranked within each image and metric; "
        "metrics weigh equally within a family, and families equally. Intervals are 95 % percentile intervals of a bootstrap "
        f"over {'groups' if study.config.images.group else 'images'}{draws}. Faithfulness-side metrics and plausibility "
        f"(agreement with the masks) were ranked apart and never merged. {rests_on(study)}"
    ).rstrip()


def _about_software(study: Study) -> str:
    versions = study.settings.get("provenance", {}).get("versions", {})
    told = ", ".join(f"{name} {number}" for name, number in versions.items())
    return f"Software: {told}." if told else ""
