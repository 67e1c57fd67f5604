"""The zoo: small nets with the layouts and habits of the field, to try a method on what people bring."""

from pellucid.testing.zoo.catalogue import ZOO
from pellucid.testing.zoo.entry import ZooNet
from pellucid.testing.zoo.panel import SMALL, small
from pellucid.testing.zoo.verify import Verdict, verify

__all__ = ["SMALL", "ZOO", "Verdict", "ZooNet", "small", "verify"]
