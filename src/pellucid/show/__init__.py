"""Show: figures of explanations, scores and rankings, and the report of a study in one offline file."""

from pellucid.show.agreement import plot_agreement
from pellucid.show.causes import plot_latent_causes
from pellucid.show.charts import plot_calibration, plot_ranking, plot_reliance, plot_scores
from pellucid.show.doses import plot_dose_response
from pellucid.show.exports import EXPORTS, write_export
from pellucid.show.figure import plot_explanation
from pellucid.show.minimal import plot_minimal_mask
from pellucid.show.rank_charts import plot_critical_difference
from pellucid.show.report import write_report

__all__ = [
    "EXPORTS", "plot_agreement", "plot_calibration", "plot_critical_difference", "plot_dose_response",
    "plot_explanation", "plot_latent_causes", "plot_minimal_mask", "plot_ranking", "plot_reliance", "plot_scores",
    "write_export", "write_report",
]  # fmt: skip
