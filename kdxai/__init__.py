"""Does a compressed CNN still look at the right things?

The names below are the library's front door; they are imported when they are first asked for, so
that `import kdxai` takes no time. `kdxai.evaluate` is a module that can be called as its function.
"""

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = [
    "METHODS",
    "SOUND",
    "Classifier",
    "External",
    "Protocol",
    "UserError",
    "compare",
    "cut",
    "errors",
    "evaluate",
    "explain",
    "measures",
    "metrics",
    "overlay",
    "protocol",
]

if TYPE_CHECKING:
    from kdxai import errors, evaluate, explain, measures, metrics, protocol
    from kdxai.comparison import compare
    from kdxai.errors import UserError
    from kdxai.explain import METHODS, Classifier
    from kdxai.explain.layers import cut
    from kdxai.externals import External
    from kdxai.protocol import SOUND, Protocol
    from kdxai.report.overlay import overlay

_HOMES = {
    "METHODS": "explain",
    "SOUND": "protocol",
    "Classifier": "explain",
    "External": "externals",
    "Protocol": "protocol",
    "UserError": "errors",
    "compare": "comparison",
    "cut": "explain.layers",
    "overlay": "report.overlay",
}


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'kdxai' has no attribute '{name}'")
    if name in _HOMES:
        return getattr(importlib.import_module(f"kdxai.{_HOMES[name]}"), name)
    return importlib.import_module(f"kdxai.{name}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
