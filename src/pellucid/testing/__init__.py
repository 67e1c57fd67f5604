"""The conformance suite: what every method and metric must hold to, built in or from another package."""

from pellucid.testing.files import damaged, reading, sample_files, write_damaged
from pellucid.testing.methods import check_method
from pellucid.testing.metrics import check_metric
from pellucid.testing.nets import small_images, small_masks, small_net, small_vit
from pellucid.testing.untouched import interrupted, untouched

__all__ = [
    "check_method", "check_metric", "damaged", "interrupted", "reading", "sample_files", "small_images", "small_masks", "small_net", "small_vit",
    "untouched", "write_damaged",
]  # fmt: skip
