"""Names of GoogLeNet."""

from kdxai.models.googlenet import STAGES, STEM
from kdxai.models.weights.source import Reader, Source, no_options

BRANCHES = {
    "branch1": "branch1",
    "branch2_0": "branch2.0",
    "branch2_1": "branch2.1",
    "branch3_0": "branch3.0",
    "branch3_1": "branch3.1",
    "branch4": "branch4.1",
}
LAYERS = {"Conv_0": "conv", "BatchNorm_0": "bn"}
TABLE = {  # torchvision's, with its first convolution alone as the stem
    **{f"stem/{ours}": (f"conv1.{theirs}",) for ours, theirs in LAYERS.items()},
    **{
        f"stage{stage}.block{block}/{branch}/{ours}": (
            f"inception{stage + 2}{'abcde'[block]}.{name}.{theirs}",
        )
        for stage, blocks in enumerate(STAGES, 1)
        for block in range(len(blocks))
        for branch, name in BRANCHES.items()
        for ours, theirs in LAYERS.items()
    },
    "head": ("fc",),
}


def recognise(source: Source) -> str | None:
    width = source.width("stem/Conv_0")
    if not width or not source.width("stage1.block0/branch1/Conv_0"):
        return None
    return "googlenet" + (f"-w{64 * width // STEM}" if width != STEM else "")


GOOGLENET = Reader(TABLE, recognise, no_options)
