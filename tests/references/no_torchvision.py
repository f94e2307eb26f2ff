"""Stands in for torchvision, which pytorch-grad-cam imports for things that are not used here."""

import sys
import types

for name, contents in {
    "torchvision": (),
    "torchvision.ops": (),
    "torchvision.transforms": ("Compose", "Normalize", "ToTensor"),
    "torchvision.transforms.functional": ("resize",),
}.items():
    sys.modules[name] = types.ModuleType(name)
    for attribute in contents:
        setattr(sys.modules[name], attribute, None)
