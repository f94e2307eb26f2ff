"""Curves of training."""

from collections.abc import Mapping

import pandas as pd
from matplotlib.ticker import MaxNLocator

from kdxai.report.charts import look, models
from kdxai.report.charts.chart import Chart

# Columns of a history that are drawn.
COLUMNS = ("epoch", "validation_loss", "validation_accuracy", "train_accuracy")


@look.styled
def training(histories: Mapping[str, pd.DataFrame], slots: Mapping[str, int]) -> Chart:
    """Loss and accuracy by epoch.

    Args:
      histories: model -> rows with `COLUMNS`.
      slots: model -> slot.
    """
    width = 2 * look.WIDTH
    top = models.key_height(histories, width) + 22
    figure = look.new_figure(width, top + 230)
    titles = {
        "loss": "Validation loss (cross-entropy)",
        "accuracy": "Accuracy (dotted: training)",
    }
    for place, (quantity, title) in enumerate(titles.items()):
        ax = look.add_axes(figure, 44 + look.WIDTH * place, top, look.WIDTH - 60, 190)
        for name, rows in histories.items():
            colour = look.colour(slots[name])
            ax.plot(rows.epoch, rows[f"validation_{quantity}"], color=colour, lw=1.8)
            if quantity == "accuracy":
                ax.plot(rows.epoch, rows.train_accuracy, color=colour, ls=(0, (1, 2)), lw=1.8)
        ax.xaxis.set_major_locator(MaxNLocator(6, integer=True))
        ax.yaxis.set_major_locator(MaxNLocator(5))
        ax.yaxis.set_major_formatter(look.short if quantity == "loss" else look.percent)
        ax.set_xlabel("epoch →", loc="right")
        ax.set_title(title)
    models.key(figure, {name: slots[name] for name in histories}, lines=True)
    says = [
        f"{name}: validation accuracy {rows.validation_accuracy.iloc[-1]:.1%}, loss "
        f"{rows.validation_loss.iloc[-1]:.3f} after {int(rows.epoch.iloc[-1])} epochs"
        for name, rows in histories.items()
    ]
    note = (
        "Solid: on the validation images. Dotted: accuracy on the augmented training images, as "
        "they were while the epoch was trained."
    )
    return Chart("training-curves", "Training", f"{'; '.join(says)}.", figure, says, note)
