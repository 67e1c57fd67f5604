"""The verdict of a study: which methods to believe here, and which statement their maps can and cannot support.

Nothing is tested here. The checks of the methods and the findings about the model are drawn together, in words that
claim no more than what was tested.
"""

from collections.abc import Iterable, Sequence

from pellucid.interpretation.checks import Judged, check_methods
from pellucid.interpretation.evidence import Evidence
from pellucid.interpretation.finding import Finding

__all__ = ["believed", "judge", "judged_methods"]

_PHRASES = {
    "believed": "Believe here: {}.", "doubtful": "In doubt: {}.", "not believed": "Do not believe: {}.",
    "not tested": "Not tested against controls: {}.",
}  # fmt: skip

_LIMITS = {
    "gate": "anything of what the model learnt, for it is not clearly better than naming the commonest class",
    "not_localised": "that the cause lies at a place, for it is a property of the whole object",
    "shortcut": "that the object alone drives the model, for the {} is being used",
    "confounder": "that what is seen in class {} is its biology, for its images were made apart from the others'",
}
"""What maps cannot support, by the finding that forbids it; the subject is filled in."""

_OPEN = {
    "locality": "whether a place or the whole object is the cause",
    "background": "whether the background is being used",
}
"""What stays open where a test was refused or undecided, by what was to be tested."""


def judged_methods(evidence: Evidence) -> list[Judged]:
    """Return what was checked of every method that is no control."""
    return check_methods(evidence.scores, evidence.ranking, evidence.judged, groups=evidence.groups, seed=evidence.seed)


def believed(judged: Iterable[Judged]) -> tuple[str, ...]:
    """Return the methods that beat the controls and have no check against them."""
    return tuple(one.method for one in judged if one.standing == "believed")


def judge(evidence: Evidence, findings: Sequence[Finding], recommended: Finding | None = None) -> list[Finding]:
    """Draw the study's verdict from its scores, its ranking and its findings.

    Parameters
    ----------
    evidence
        With scores and ranking.
    findings
        About the model: what maps can support.
    recommended
        What planted changes say of the methods, see `pellucid.evaluation.calibrate`.

    Returns
    -------
    list
        Findings of kind ``verdict``: ``verdict-methods``, which methods to believe; ``verdict-supports`` and
        ``verdict-limits``, what their maps can and cannot support. None where nothing was scored.
    """
    if not evidence.scores.num_rows or not evidence.judged:
        return []
    judged = judged_methods(evidence)
    return [_methods(judged, recommended), _supports(judged, findings), _limits(findings)]


def _methods(judged: Sequence[Judged], recommended: Finding | None) -> Finding:
    groups = {word: [one.method for one in judged if one.standing == word] for word in _PHRASES}
    told = [phrase.format(", ".join(groups[word])) for word, phrase in _PHRASES.items() if groups[word]]
    against = [f"{one.method}: {' '.join(one.against)}" for one in judged if one.against]
    none = ["No method passed every check that was made."] if not groups["believed"] else []
    return _verdict(
        "methods",
        " ".join([*_first_choice(judged, recommended), *none, *told]),
        f"Checks made: {', '.join(dict.fromkeys(check.name for one in judged for check in one.checks)) or 'none'}. "
        + (" ".join(against) or "None of them speaks against a method."),
        share=len(groups["believed"]) / len(judged),
        supported=bool(groups["believed"]),
    )


def _first_choice(judged: Sequence[Judged], recommended: Finding | None) -> list[str]:
    """Name the method that planted changes recommend, with what the other checks say of it."""
    if recommended is None or recommended.verdict != "supported":
        return []
    method = recommended.subject
    standing = next((one.standing for one in judged if one.method == method), "believed")
    but = "" if standing == "believed" else f" (by the other checks it is {standing})"
    return [f"Look first at {method}: its maps follow best what changes planted in these images do to the model{but}."]


def _supports(judged: Sequence[Judged], findings: Sequence[Finding]) -> Finding:
    """Say what the maps of the believed methods can support: no more than beating controls, or places that were tested."""
    names, at_chance = believed(judged), any(finding.kind == "gate" for finding in findings)
    if not names or at_chance:
        why = "the model is at chance" if at_chance else "no method beats the controls with no check against it"
        return _verdict("supports", "The maps support no statement about the model here.", f"Because {why}.")
    whole, place = (
        next((one for one in findings if one.kind == kind and one.verdict == "supported"), None)
        for kind in ("not_localised", "localised")
    )
    if whole is not None:
        told = "The maps support no statement of place here: what drives the model is a property of the whole object."
        return _verdict("supports", told, whole.evidence)
    if place is not None:
        told = (
            "Maps support statements of place: changing the places that the best of them points to moves the model's output; "
            "the evidence names its method."
        )
        return _verdict("supports", told, place.evidence, supported=True)
    told = (
        "Maps of believed methods support that they follow the model more closely than the controls do; which property of "
        "the marked places is used, they do not say."
    )
    return _verdict("supports", told, f"Believed: {', '.join(names)}.", supported=True)


def _limits(findings: Sequence[Finding]) -> Finding:
    hard = [one for one in findings if one.kind in _LIMITS and one.verdict == "supported"]
    open_ = [one for one in findings if one.verdict == "undecided" and one.id.split("-")[0] in _OPEN]
    cannot = dict.fromkeys(_LIMITS[one.kind].format(one.subject) for one in hard)
    told = f"The maps cannot support {'; nor '.join(cannot)}." if cannot else ""
    left = dict.fromkeys(_OPEN[one.id.split("-")[0]] for one in open_)
    rest = f"Left open: {'; '.join(left)}." if left else ""
    nothing = "No test that was made forbids a statement; a map still shows where, never why."
    evidence = " ".join(f"{one.id}: {one.evidence}" for one in (*hard, *open_))
    return _verdict(
        "limits", " ".join(filter(None, (told, rest))) or nothing, evidence or "No finding.", supported=bool(cannot)
    )


def _verdict(
    name: str, statement: str, evidence: str, *, share: float | None = None, supported: bool = False
) -> Finding:
    return Finding(
        id=f"verdict-{name}",
        kind="verdict",
        subject="maps" if name != "methods" else "methods",
        statement=statement,
        evidence=evidence,
        value=share,
        verdict="supported" if supported else "undecided",
    )
