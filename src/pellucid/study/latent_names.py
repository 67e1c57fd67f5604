"""What experts call the latents of a study: kept beside it, with who said so."""

from pathlib import Path
from typing import Any

from pellucid.errors import BadStudy
from pellucid.study.store import Store

__all__ = ["NAMES", "name_latent", "read_names"]

NAMES = "phenotypes/names.json"


def read_names(store: Store) -> dict[str, dict[str, str]]:
    """Return what each latent or phenotype axis is called: ``name``, ``by`` and ``note``."""
    known: dict[str, Any] | None = store.read_json(NAMES)
    return known or {}


def name_latent(study: Path | str, latent: str, name: str, *, by: str, note: str = "") -> None:
    """Call a latent of a study something; the report and the causes of single images say so from then on.

    Parameters
    ----------
    study
        The study's directory.
    latent
        Such as ``"latent 3"`` or a phenotype's column; an earlier name is replaced.
    name, by, note
        What it is called, by whom, and what was seen.

    Raises
    ------
    BadStudy
        When the directory is no study, it has not told its latents yet, or has no such latent.
    """
    store = Store(Path(study))
    store.settings()
    players = store.read_table("interpretation/phenotype_players.parquet")
    latents = store.read_table("interpretation/phenotype_latents.parquet")
    if latents is None:
        raise BadStudy(f"{study} has not told its latents yet; give it a table [phenotypes] and run it")
    axes = [] if players is None else players["player"].to_pylist()
    known = [*dict.fromkeys([*latents["measure"].to_pylist(), *axes])]
    if latent not in known:
        raise BadStudy(f"{study} has no latent {latent!r}; it has {', '.join(known)}")
    if not name.strip() or not by.strip():
        raise BadStudy("a latent is given a name and the name of who gave it")
    store.write_json(NAMES, read_names(store) | {latent: {"name": name, "by": by, "note": note}})
