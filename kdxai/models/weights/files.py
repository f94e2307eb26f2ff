"""Files of weights: safetensors, and those of PyTorch where it is installed."""

import argparse
import os
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kdxai.errors import UserError, one_line, printable

PYTORCH = (".pt", ".pth", ".th", ".tar", ".ckpt", ".bin")
# What repositories put a state dict in. The averaged weights come first: published accuracies are
# theirs where a file has both.
WRAPPERS = (
    *("state_dict_ema", "model_ema", "ema_state_dict", "ema", "shadow"),
    *("state_dict", "model_state_dict", "model", "net", "network", "module"),
)


def read(path: str | os.PathLike[str]) -> dict[str, np.ndarray]:
    """The tensors of a file by name, bfloat16 as float32; nothing in it is ever run.

    A state dict is taken out of what repositories wrap it in; of averaged weights (EMA) and others
    in one file, the averaged ones.

    Raises:
      UserError: no such file, no weights, damaged, a pickle that asks for code, or a file of
        PyTorch where that is not installed.
    """
    path = Path(path)
    shown = printable(str(path))
    if not path.is_file():
        raise UserError(f"there is no file of weights '{shown}'")
    if path.suffix == ".safetensors":
        return _read_safetensors(path, shown)
    if path.suffix in PYTORCH:
        return _read_pytorch(path, shown)
    raise UserError(
        f"'{shown}': a file of weights ends in .safetensors or, from PyTorch, in "
        f"{', '.join(PYTORCH)}"
    )


def _read_safetensors(path: Path, shown: str) -> dict[str, np.ndarray]:
    try:
        with safe_open(path, framework="np") as file:
            return {name: _usual(file.get_tensor(name)) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, TypeError, ValueError, AttributeError) as error:
        raise UserError(f"'{shown}' cannot be read as safetensors: {one_line(error)}") from error


def _usual(array: np.ndarray) -> np.ndarray:
    """bfloat16 is no type of NumPy's own, and few functions take it."""
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


def _read_pytorch(path: Path, shown: str) -> dict[str, np.ndarray]:
    try:
        import torch
    except ImportError:
        raise UserError(
            f"'{shown}' is a file of PyTorch: pip install 'kdxai[torch]' to read it, or save the "
            "weights as safetensors"
        ) from None
    try:
        # A Namespace, in which scripts keep their arguments, is data and runs nothing.
        harmless = torch.serialization.safe_globals([argparse.Namespace])
        with warnings.catch_warnings(), harmless:
            warnings.simplefilter("ignore")  # of what the error says
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # of any type: the bytes decide how far the unpickler comes
        if code := re.search(r"GLOBAL (\S+)", str(error)):
            raise UserError(
                f"'{shown}' asks for code ({printable(code[1])}), which is never run; "
                "save the weights alone: torch.save(model.state_dict(), ...)"
            ) from error
        raise UserError(
            f"'{shown}' cannot be read as weights of PyTorch: it is damaged, or holds more than "
            "weights, which is never run; save them alone: torch.save(model.state_dict(), ...)"
        ) from error
    return {
        name: (tensor.float() if tensor.is_floating_point() else tensor).numpy()
        for name, tensor in _state_dict(loaded, shown).items()
        if isinstance(tensor, torch.Tensor)
    }


def _state_dict(loaded: Any, shown: str) -> Mapping[str, Any]:
    """The innermost mapping, which holds the tensors."""
    while isinstance(loaded, Mapping):
        inner = [loaded[key] for key in WRAPPERS if isinstance(loaded.get(key), Mapping)]
        if not inner:
            break
        loaded = inner[0]
    if not isinstance(loaded, Mapping):
        held = f"a {type(loaded).__name__}"
    elif not any(hasattr(value, "dtype") for value in loaded.values()):
        held = f"the keys {', '.join(printable(str(key)) for key in list(loaded)[:5])}"
    else:
        return loaded
    raise UserError(
        f"'{shown}' holds no state dict but {held}; save one: torch.save(model.state_dict(), ...)"
    )
