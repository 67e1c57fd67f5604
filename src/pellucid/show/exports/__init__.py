"""Exports: a study in the files that other people's programs open."""

from pellucid.show.exports.registry import EXPORTS, Export, write_export

__all__ = ["EXPORTS", "Export", "write_export"]
