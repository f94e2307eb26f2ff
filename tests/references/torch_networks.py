"""Small networks in PyTorch, named as public repositories name theirs -> torch_networks.json.

    pip install torch torchvision timm
    cd tests && python -m references.torch_networks

The file holds the shapes of the weights, which are random by a seed, and the logits of three
images, so a test run needs no torch; where it is there, tests/models/test_torch.py makes wider
networks too.
"""

import json
import pathlib

import torch
from random_weights import random_images, random_weights
from torch import nn
from torch.nn import functional as F

PATH = pathlib.Path(__file__).with_suffix(".json")


def conv(inputs, outputs, window=3, stride=1, groups=1):
    return nn.Conv2d(inputs, outputs, window, stride, window // 2, groups=groups, bias=False)


class Residual(nn.Module):
    """Convolutions with BatchNorm and ReLU between them, and a shortcut; then ReLU.

    `projection` names the shortcut's convolution and norm; None means option A.
    """

    def __init__(self, convolutions, stride, projection):
        super().__init__()
        self.depth, self.stride, self.projection = len(convolutions), stride, projection
        for i, convolution in enumerate(convolutions, 1):
            self.add_module(f"conv{i}", convolution)
            self.add_module(f"bn{i}", nn.BatchNorm2d(convolution.out_channels))
        inputs, outputs = convolutions[0].in_channels, convolutions[-1].out_channels
        self.changes = stride != 1 or inputs != outputs
        self.more = outputs - inputs
        if self.changes and projection:
            layers = conv(inputs, outputs, 1, stride), nn.BatchNorm2d(outputs)
            self.add_module(projection, nn.Sequential(*layers))

    def forward(self, x):
        y = x
        for i in range(1, self.depth + 1):
            y = getattr(self, f"bn{i}")(getattr(self, f"conv{i}")(F.relu(y) if i > 1 else y))
        if self.changes and self.projection:
            x = getattr(self, self.projection)(x)
        elif self.changes:
            x = x[:, :, :: self.stride, :: self.stride]
            half = self.more // 2
            zeros = x.new_zeros(len(x), max(half, self.more - half), *x.shape[2:])
            x = torch.cat([zeros[:, :half], x, zeros[:, : self.more - half]], 1)
        return F.relu(x + y)


class ResNet(nn.Module):
    """`stages`: for each, the channels of the convolutions of its blocks, [[(w, w), ...], ...]."""

    def __init__(self, stem, stages, classes, projection, head, groups=1, pool=False):
        super().__init__()
        self.conv1, self.bn1, self.pool = stem, nn.BatchNorm2d(stem.out_channels), pool
        inputs = stem.out_channels
        for s, blocks in enumerate(stages):
            layers = []
            for b, widths in enumerate(blocks):
                stride = 2 if s and not b else 1
                if len(widths) == 2:
                    inner, outputs = widths
                    convolutions = conv(inputs, inner, stride=stride), conv(inner, outputs)
                else:
                    inner, _, outputs = widths
                    convolutions = (
                        conv(inputs, inner, 1),
                        conv(inner, inner, 3, stride, groups),
                        conv(inner, outputs, 1),
                    )
                layers.append(Residual(convolutions, stride, projection))
                inputs = outputs
            self.add_module(f"layer{s + 1}", nn.Sequential(*layers))
        self.stages, self.head = len(stages), head
        self.add_module(head, nn.Linear(inputs, classes))

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        if self.pool:
            x = F.max_pool2d(x, 3, 2, 1)
        for s in range(self.stages):
            x = getattr(self, f"layer{s + 1}")(x)
        return getattr(self, self.head)(x.mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1, self.conv2 = conv(inputs, width, stride=stride), conv(width, width)
        self.convShortcut = None if inputs == width else conv(inputs, width, 1, stride)

    def forward(self, x):
        y = F.relu(self.bn1(x))
        x = x if self.convShortcut is None else self.convShortcut(y)
        return x + self.conv2(F.relu(self.bn2(self.conv1(y))))


class WideResNet(nn.Module):
    def __init__(self, depth, width, classes, base=16):
        super().__init__()
        self.conv1, inputs = conv(3, base), base
        for stage in range(3):
            outputs, blocks = base * width * 2**stage, []
            for block in range((depth - 4) // 6):
                blocks.append(WideBlock(inputs, outputs, 2 if stage and not block else 1))
                inputs = outputs
            holder = nn.Module()
            holder.layer = nn.Sequential(*blocks)
            self.add_module(f"block{stage + 1}", holder)
        self.bn1, self.fc = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            x = stage.layer(x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class BiasedBlock(nn.Module):
    def __init__(self, inputs, width, stride):
        super().__init__()
        self.bn1, self.bn2 = nn.BatchNorm2d(inputs), nn.BatchNorm2d(width)
        self.conv1 = nn.Conv2d(inputs, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, stride, padding=1)
        changes = stride != 1 or inputs != width
        self.shortcut = nn.Sequential(*[nn.Conv2d(inputs, width, 1, stride)] * changes)

    def forward(self, x):
        y = self.conv1(F.relu(self.bn1(x)))
        return self.conv2(F.relu(self.bn2(y))) + self.shortcut(x)


class BiasedWideResNet(nn.Module):  # meliketoy's
    def __init__(self, depth, width, classes, base=16):
        super().__init__()
        self.conv1, inputs = nn.Conv2d(3, base, 3, padding=1), base
        for stage in (1, 2, 3):
            outputs, blocks = base * width * 2 ** (stage - 1), []
            for block in range((depth - 4) // 6):
                blocks.append(BiasedBlock(inputs, outputs, 2 if stage > 1 and not block else 1))
                inputs = outputs
            self.add_module(f"layer{stage}", nn.Sequential(*blocks))
        self.bn1, self.linear = nn.BatchNorm2d(inputs), nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.layer3(self.layer2(self.layer1(self.conv1(x))))
        return self.linear(F.relu(self.bn1(x)).mean((2, 3)))


class GoogLeNet(nn.Module):
    """torchvision's blocks behind a 3x3 stem, their channels times `base` / 64."""

    def __init__(self, classes, base):
        super().__init__()
        from torchvision.models.googlenet import BasicConv2d, Inception

        stages = {
            "3": [(64, 96, 128, 16, 32, 32), (128, 128, 192, 32, 96, 64)],
            "4": [
                (192, 96, 208, 16, 48, 64),
                (160, 112, 224, 24, 64, 64),
                (128, 128, 256, 24, 64, 64),
                (112, 144, 288, 32, 64, 64),
                (256, 160, 320, 32, 128, 128),
            ],
            "5": [(256, 160, 320, 32, 128, 128), (384, 192, 384, 48, 128, 128)],
        }
        inputs, self.order = 192 * base // 64, []
        self.conv1 = BasicConv2d(3, inputs, kernel_size=3, padding=1)
        for stage, blocks in stages.items():
            for letter, channels in zip("abcde", blocks, strict=False):
                one, _, two, _, three, four = widths = [c * base // 64 for c in channels]
                name = f"inception{stage}{letter}"
                self.add_module(name, Inception(inputs, *widths))
                self.order.append(name)
                inputs = one + two + three + four
        self.fc = nn.Linear(inputs, classes)

    def forward(self, x):
        x = self.conv1(x)
        for name in self.order:
            if name in ("inception4a", "inception5a"):
                x = F.max_pool2d(x, 3, 2, 1)
            x = getattr(self, name)(x)
        return self.fc(x.mean((2, 3)))


def mobilenetv2(classes, base):
    """torchvision's, with a stride of 1 where the images are small."""
    from torchvision.models import MobileNetV2

    stages = [
        [1, 16, 1, 1], [6, 24, 2, 1], [6, 32, 3, 2], [6, 64, 4, 2], [6, 96, 3, 1], [6, 160, 3, 2],
        [6, 320, 1, 1],
    ]  # fmt: skip
    network = MobileNetV2(classes, base / 32, inverted_residual_setting=stages)
    network.features[0][0].stride = (1, 1)
    return network


def convnext(depths, base, patch=1, classes=5):
    from timm.models.convnext import ConvNeXt

    dims = [base * 2**stage for stage in range(4)]
    return ConvNeXt(depths=depths, dims=dims, patch_size=patch, num_classes=classes)


def vit(depth, width, heads, pool, patch=4, size=32, classes=5):
    """timm's; with `avg` the norm stands before the average, so that the head is linear on it."""
    from timm.models.vision_transformer import VisionTransformer

    more = {"class_token": False, "fc_norm": False} if pool == "avg" else {}
    return VisionTransformer(
        size,
        patch,
        num_classes=classes,
        global_pool=pool,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        **more,
    )


def basic(counts, base):
    return [[(base * 2**s,) * 2] * count for s, count in enumerate(counts)]


def bottlenecks(counts, inner, outputs):
    return [[(inner * 2**s,) * 2 + (outputs * 2**s,)] * n for s, n in enumerate(counts)]


def cifar(depth, base, projection=None, head="linear"):  # akamaster's
    stages = basic([(depth - 2) // 6] * 3, base)
    return ResNet(conv(3, base), stages, 5, projection, head)


def kuangliu(counts, base):
    return ResNet(conv(3, base), basic(counts, base), 5, "shortcut", "linear")


def torchvision(stages, base):
    return ResNet(conv(3, base, 7, 2), stages, 5, "downsample", "fc", pool=True)


def resnext(depth, groups, width, base=64, window=3, outputs=None):
    counts = [(depth - 2) // 9] * 3
    stages = bottlenecks(counts, groups * width, outputs or 4 * base)
    return ResNet(conv(3, base, window), stages, 5, "shortcut", "linear", groups)


# Two blocks a stage, and other channels in every layer.
PRUNED = [[(3, 5), (2, 5)], [(4, 6), (7, 6)], [(9, 7), (1, 7)]]

# What `convert` is told -> the network, narrow enough to be stored.
SMALL = {
    "resnet8-w4": lambda: cifar(8, 4),
    "resnet14": lambda: ResNet(conv(3, 5), PRUNED, 5, "downsample", "fc"),
    "resnet18-w2": lambda: kuangliu([2, 2, 2, 2], 2),
    "resnet18-imagenet-w2": lambda: torchvision(basic([2, 2, 2, 2], 2), 2),
    "resnet50-imagenet-w1": lambda: torchvision(bottlenecks([3, 4, 6, 3], 1, 4), 1),
    "wrn-10-2-w4": lambda: WideResNet(10, 2, 5, 4),
    "wrn-16-1-w3": lambda: BiasedWideResNet(16, 1, 5, 3),
    "resnext11-2x2-w4": lambda: resnext(11, 2, 2, 4),
    # As pytorch-cifar has them: a 1x1 stem, twice as many channels as between.
    "resnext11-4x1-w3": lambda: resnext(11, 4, 1, 3, window=1, outputs=8),
    "googlenet-w8": lambda: GoogLeNet(5, 8),
    "mobilenetv2-w4": lambda: mobilenetv2(5, 4),
    "convnext-1-1-2-1-w4": lambda: convnext((1, 1, 2, 1), 4),
    "vit-2-8-2": lambda: vit(2, 8, 2, "avg"),
    "vit-2-12-3": lambda: vit(2, 12, 3, "token", patch=8),
}


def shapes(network):
    return {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}


def logits(network, state, images):
    """[N, H, W, C] images -> [N, K] by a network with the weights of `state`."""
    network.load_state_dict({name: torch.tensor(array) for name, array in state.items()})
    with torch.no_grad():
        return network.eval()(torch.tensor(images.transpose(0, 3, 1, 2))).numpy()


def stored():
    return json.loads(PATH.read_text())


def main():
    references = {}
    for name, make in SMALL.items():
        network = make()
        outputs = logits(network, random_weights(shapes(network), seed=0), random_images())
        references[name] = {"shapes": shapes(network), "logits": outputs.tolist()}
        print(name, outputs[0])
    PATH.write_text(json.dumps(references, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
