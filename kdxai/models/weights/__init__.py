"""Weights of networks that were trained elsewhere: `convert(read(path), name)`."""

from kdxai.models.weights.convert import Converted, convert
from kdxai.models.weights.files import read

__all__ = ["Converted", "convert", "read"]
