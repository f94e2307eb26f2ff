"""Imports point down the house, and nothing brings in TensorFlow or PyTorch."""

import ast
import subprocess
import sys

import pytest
from scripts import ROOT

# Each may import itself and what stands before it, but for the pairs below.
# So nothing from `data` to `evaluate` knows of training or studies.
ORDER = [
    *("errors", "progress", "files", "fingerprints", "settings", "devices"),
    *("inputs", "lifting", "scaling"),
    *("data", "models", "explain", "externals", "metrics"),
    *("protocol", "classifiers", "drawing", "measures", "evaluate"),
    *("training", "compress", "study", "report", "comparison", "cli"),
]
STRANGERS = {
    "data": {"devices"},
    "models": {"data", "progress", "devices"},
    "explain": {"data", "models", "progress", "files", "devices"},
    "externals": {"data", "models"},
    "metrics": {"data", "models", "progress", "files", "devices", "explain", "externals"},
    "protocol": {"data", "externals", "metrics"},
    "training": {"metrics", "protocol", "classifiers", "drawing", "measures", "evaluate"},
}
STRANGERS["compress"] = STRANGERS["training"] | {"training", "explain", "externals"}
FILES = sorted((ROOT / "kdxai").rglob("*.py"))


def imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


@pytest.mark.parametrize("path", FILES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_down(path):
    room = path.relative_to(ROOT / "kdxai").parts[0].removesuffix(".py")
    if room == "__init__":
        return
    for name in imports(path):
        if name.startswith("kdxai."):
            other = name.split(".")[1]
            assert ORDER.index(other) <= ORDER.index(room), f"{room} imports {other}"
            assert other not in STRANGERS.get(room, set()), f"{room} imports {other}"


def test_neither_tensorflow_nor_torch():
    code = (
        "import sys, kdxai.cli, kdxai.study.run, kdxai.report.write\n"
        "assert not {'tensorflow', 'torch', 'tensorflow_datasets'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
