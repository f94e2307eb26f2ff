"""Training images as a run has them on its devices."""

from kdxai.training import steps
from kdxai.training.feed import place


def placed(dataset, seed=0):
    """The images and the seed of their views."""
    return steps.seeded(place(dataset.train, dataset).constants, views=seed, dropout=0)
