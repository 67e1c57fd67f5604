"""Consent: what could execute when it is opened is refused unless it is trusted, for good or for one content only."""

import re
from dataclasses import dataclass
from pathlib import Path

from pellucid.errors import CannotExplain, UntrustedModel

__all__ = ["Consent"]

_HASH = re.compile(r"sha256:[0-9a-f]{64}")


@dataclass(frozen=True)
class Consent:
    """Whether what lies at a path may be executed.

    Attributes
    ----------
    path
        What is to be opened.
    digest
        The sha256 of its content now.
    given
        Whether the user consented.
    """

    path: Path
    digest: str
    given: bool

    @classmethod
    def of(cls, trust: bool | str, path: Path, digest: str) -> "Consent":  # noqa: FBT001  # the contract's own word
        """Read what the user said: nothing, ``True``, or ``"sha256:..."`` for this content and no other.

        Raises
        ------
        UntrustedModel
            When the content is another than the one that was trusted.
        CannotExplain
            When `trust` is spelt otherwise.
        """
        if isinstance(trust, bool):
            return cls(path, digest, trust)
        if not isinstance(trust, str) or not _HASH.fullmatch(trust):
            raise CannotExplain(f"trust={trust!r} is neither True nor 'sha256:' with the 64 digits of a content hash")
        if trust != f"sha256:{digest}":
            raise UntrustedModel(
                f"the content of {path} changed: trusted was {trust} and it is sha256:{digest} now; look at what changed, "
                "and trust it anew"
            )
        return cls(path, digest, given=True)

    def demand(self, what: str, instead: str) -> None:
        """Go on only with consent.

        Parameters
        ----------
        what
            What could execute, as the predicate of a sentence about the path.
        instead
            How to convert it into what opens freely.

        Raises
        ------
        UntrustedModel
            When there is none.
        """
        if not self.given:
            raise UntrustedModel(
                f"{self.path} {what}, and opening it could execute code: {instead}, or, where you trust it, say trust=True "
                f"(or trust='sha256:{self.digest}' for this content only)"
            )
