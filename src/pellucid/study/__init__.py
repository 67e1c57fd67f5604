"""Studies: a study file becomes a directory with maps, scores, a ranking and findings, and can be resumed at any time."""

from pellucid.study.check import Checked, check_study
from pellucid.study.config import StudyConfig, default_out, read_config
from pellucid.study.panels import METHOD_PANEL, METRIC_PANEL
from pellucid.study.slide import SlideMap, explain_slide
from pellucid.study.study import Study

__all__ = [
    "METHOD_PANEL",
    "METRIC_PANEL",
    "Checked",
    "SlideMap",
    "Study",
    "StudyConfig",
    "check_study",
    "default_out",
    "explain_slide",
    "read_config",
]
