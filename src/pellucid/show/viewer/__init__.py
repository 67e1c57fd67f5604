"""The viewer: a study's report in the browser of this machine, with blind ratings and masks that are saved into the study."""

from pellucid.show.viewer.app import make_app
from pellucid.show.viewer.reviews import Reviews
from pellucid.show.viewer.serve import serve

__all__ = ["Reviews", "make_app", "serve"]
