"""Where trained models come from: one module a source, chosen by what lies at the path."""

from pellucid.models.sources.consent import Consent
from pellucid.models.sources.registry import source_of, sources
from pellucid.models.sources.source import Asked, Factory, ModelSource, Opened, fetched, own_settings

__all__ = [
    "Asked",
    "Consent",
    "Factory",
    "ModelSource",
    "Opened",
    "fetched",
    "own_settings",
    "source_of",
    "sources",
]
