"""Names of MobileNetV2."""

from kdxai.models.mobilenetv2 import STAGES, STEM
from kdxai.models.weights.source import Reader, Source, no_options

MODULES = ("expand", "depthwise", "project")


def block(stage: int, number: int, place: int) -> dict[str, tuple[str, ...]]:
    """Of one block, the `place`-th of `features`; one without expansion lacks its convolution."""
    found: dict[str, tuple[str, ...]] = {}
    modules = MODULES[STAGES[stage - 1][0] == 1 :]
    for i, module in enumerate(modules):
        parts = (f"{i}", f"{i + 1}") if module == "project" else (f"{i}.0", f"{i}.1")
        for ours, theirs in zip((module, f"{module}_norm"), parts, strict=True):
            name = f"features.{place}.conv.{theirs}"
            found[f"stage{stage}.block{number}/{ours}"] = (name,)
    return found


def torchvision_names() -> dict[str, tuple[str, ...]]:
    """torchvision's, which many repositories for CIFAR share."""
    found: dict[str, tuple[str, ...]] = {}
    blocks = [(s, b) for s, (_, _, count, _) in enumerate(STAGES, 1) for b in range(count)]
    for place, (stage, number) in enumerate(blocks, 1):
        found |= block(stage, number, place)
    for unit, place in (("stem", 0), ("final", len(blocks) + 1)):
        for i, module in enumerate(("Conv_0", "BatchNorm_0")):
            found[f"{unit}/{module}"] = (f"features.{place}.{i}",)
    return found | {"head": ("classifier.1", "classifier")}


def recognise(source: Source) -> str | None:
    width = source.width("stem/Conv_0")
    if not width or not source.width("stage2.block0/expand"):
        return None
    return "mobilenetv2" + (f"-w{width}" if width != STEM else "")


MOBILENETV2 = Reader(torchvision_names(), recognise, no_options)
