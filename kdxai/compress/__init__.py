"""A network made smaller: functions from a model to a model, and what they are worth."""

from kdxai.compress.channels import structured
from kdxai.compress.children import none, root
from kdxai.compress.cost import worth
from kdxai.compress.factorisation import factorise
from kdxai.compress.kinds import KINDS, Data, Kind, all_settings, apply
from kdxai.compress.pruning import prune
from kdxai.compress.quantisation import quantise
from kdxai.compress.statistics import BORDERS, batch_norm, views

__all__ = [
    "BORDERS",
    "KINDS",
    "Data",
    "Kind",
    "all_settings",
    "apply",
    "batch_norm",
    "factorise",
    "none",
    "prune",
    "quantise",
    "root",
    "structured",
    "views",
    "worth",
]
