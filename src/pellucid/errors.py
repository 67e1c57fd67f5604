"""What can go wrong, in one sentence each: every foreseeable failure is a :class:`PellucidError`."""

__all__ = [
    "BadImage",
    "BadRecipe",
    "BadStudy",
    "BadTarget",
    "CannotExplain",
    "GuardError",
    "PellucidError",
    "ShapeError",
    "UntrustedModel",
]


class PellucidError(Exception):
    """Base of every error that pellucid raises on purpose; its text is one sentence that says what to do."""


class BadRecipe(PellucidError, ValueError):
    """A method, metric or edit was misspelt or given a setting that it cannot take."""


class BadImage(PellucidError, ValueError):
    """An image, mask or manifest cannot be read, or its axes cannot be told."""


class BadTarget(PellucidError, ValueError):
    """A target does not fit the model's output."""


class BadStudy(PellucidError, ValueError):
    """A study file or study directory cannot be used as it stands."""


class ShapeError(PellucidError, ValueError):
    """Tensors do not fit each other or the model."""


class CannotExplain(PellucidError, RuntimeError):
    """The method needs something that this model does not offer."""


class GuardError(CannotExplain):
    """A backward rule would have given a plausible wrong map, and a guard stopped it."""


class UntrustedModel(PellucidError, PermissionError):
    """Opening the file could execute code, and no consent was given."""
