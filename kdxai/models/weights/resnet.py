"""Names of residual networks: for CIFAR, with a 3x3 stem, and as for ImageNet."""

from collections.abc import Sequence
from typing import Any

from kdxai.models.cifar_resnet import standard_widths
from kdxai.models.resnet import PLANS, Plan
from kdxai.models.weights.source import Reader, Source, no_options

# torchvision, timm, akamaster's, kuangliu's (another shortcut and head), `conv_1` of those who
# write it so, and last weiaicunzai's.
TABLE = {
    "stem/Conv_0": ("conv1", "conv_1", "conv1.0"),
    "stem/BatchNorm_0": ("bn1", "bn_1", "conv1.1"),
    "block": ("layer{stage}.{block}", "stage_{stage}.{block}", "conv{next_stage}_x.{block}"),
    "block/Conv_0": ("conv1", "conv_1", "residual_function.0"),
    "block/BatchNorm_0": ("bn1", "bn_1", "residual_function.1"),
    "block/Conv_1": ("conv2", "conv_2", "residual_function.3"),
    "block/BatchNorm_1": ("bn2", "bn_2", "residual_function.4"),
    "block/Conv_2": ("conv3", "conv_3", "residual_function.6"),
    "block/BatchNorm_2": ("bn3", "bn_3", "residual_function.7"),
    "block/shortcut": ("downsample.0", "shortcut.0"),
    "block/shortcut_norm": ("downsample.1", "shortcut.1"),
    "head": ("fc", "linear"),
}


def recognise(source: Source) -> str | None:
    blocks, width = source.blocks(), source.width("stem/Conv_0")
    bottleneck = source.width("stage1.block0/Conv_2") > 0
    if len(blocks) == 3 and len(set(blocks)) == 1 and not bottleneck:
        return f"resnet{6 * blocks[0] + 2}"
    depths = [depth for depth, plan in PLANS.items() if plan == Plan(blocks, bottleneck)]
    if not depths:
        return None
    large = "-imagenet" if source.shape("stem/Conv_0")[2:] == (7, 7) else ""
    return f"resnet{depths[0]}{large}" + (f"-w{width}" if width != 64 else "")


def cifar_options(source: Source, numbers: Sequence[int], base_width: int) -> dict[str, Any]:
    """The kind of shortcut, and the widths where they are not those of the name."""
    blocks = [
        f"stage{stage}.block{block}"
        for stage, count in enumerate(source.blocks(), 1)
        for block in range(count)
    ]
    convolutions = [f"{block}/Conv_{i}" for block in blocks for i in (0, 1)]
    widths = tuple(source.width(module) for module in ("stem/Conv_0", *convolutions))
    options: dict[str, Any] = {}
    if any(source.width(f"{block}/shortcut") for block in blocks):
        options["shortcut"] = "conv"
    usual = standard_widths(numbers[0], base_width)
    if len(widths) == len(usual) and all(widths) and widths != usual:
        options["widths"] = widths
    return options


RESNET = Reader(TABLE, recognise, no_options)
CIFAR_RESNET = Reader(TABLE, recognise, cifar_options)
