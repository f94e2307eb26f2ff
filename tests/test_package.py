"""What is published: names, types, licence, and that nothing is missing from a wheel."""

import ast
import re
import subprocess
import sys
import tomllib

import pytest
from scripts import ROOT

import kdxai
from kdxai import cli

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
# What a project is called, where it is imported by another name.
IMPORTED = {
    "dm_pix": "dm-pix",
    "absl": "absl-py",
    "PIL": "pillow",
    "orbax": "orbax-checkpoint",
    "ml_collections": "ml-collections",
    "tensorflow_datasets": "tensorflow-datasets",
}
# Rooms, and single modules of other rooms, that need the library's dependencies alone.
LIBRARY = ("compress", "explain", "metrics", "models", "data/augment.py", "data/stream.py")
LIBRARY += (
    "classifiers.py",
    "drawing.py",
    "externals.py",
    "inputs.py",
    "lifting.py",
    "devices.py",
    "files.py",
    "fingerprints.py",
)
LIBRARY += ("evaluate", "measures", "protocol.py", "progress.py", "scaling.py")


def names(requirements):
    return {re.split(r"[<>=\[]", requirement)[0] for requirement in requirements}


def strangers(path):
    """Other projects that a module imports as it is imported itself."""
    tree = ast.parse(path.read_text())
    inside = {
        node
        for outer in ast.walk(tree)
        if isinstance(outer, ast.FunctionDef | ast.If)
        for node in ast.walk(outer)
    }
    for node in ast.walk(tree):
        found = []
        if isinstance(node, ast.Import):
            found = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found = [node.module]
        for name in found:
            top = name.partition(".")[0]
            if node not in inside and top != "kdxai" and top not in sys.stdlib_module_names:
                yield IMPORTED.get(top, top)


def test_what_the_library_imports_is_what_it_depends_on():
    library = names(PROJECT["project"]["dependencies"])
    study = names(PROJECT["project"]["optional-dependencies"]["study"])
    for path in sorted((ROOT / "kdxai").rglob("*.py")):
        place = path.relative_to(ROOT / "kdxai").as_posix()
        allowed = library if place.startswith(LIBRARY) else library | study
        assert set(strangers(path)) <= allowed, place


def test_import_is_light_and_the_library_needs_no_study():
    """In a fresh process, without what only studies need."""
    code = (
        "import sys, kdxai\n"
        "assert not {'jax', 'numpy', 'pandas', 'flax'} & set(sys.modules)\n"
        "assert 'METHODS' in dir(kdxai) and kdxai.errors.UserError is kdxai.UserError\n"
        "assert 'jax' not in sys.modules\n"
        "for name in ('ml_collections', 'tensorflow_datasets', 'array_record', 'PIL',\n"
        "             'matplotlib', 'jinja2', 'tensorboardX'): sys.modules[name] = None\n"
        "from kdxai import METHODS, SOUND, Classifier, Protocol, evaluate, explain, measures\n"
        "import kdxai.models, kdxai.metrics.road\n"
        "assert evaluate is sys.modules['kdxai.evaluate'] and METHODS is explain.METHODS\n"
        "assert Protocol() == SOUND and Classifier._fields[:2] == ('features', 'classify')\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_evaluation_needs_no_training():
    """Nor what only training and data sets bring in, which takes seconds to import."""
    heavy = ("orbax", "tensorstore", "tensorflow_datasets", "optax", "ml_collections", "matplotlib")
    code = (
        "import sys, kdxai.evaluate\n"
        "found = {name.partition('.')[0] for name in sys.modules}\n"
        f"assert not found & {set(heavy)}, found\n"
        "rooms = {name.split('.')[1] for name in sys.modules if name.startswith('kdxai.')}\n"
        "assert not rooms & {'training', 'study', 'report', 'cli'}, rooms"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)


def test_names_at_the_top():
    for name in kdxai.__all__:
        assert getattr(kdxai, name) is not None
    with pytest.raises(AttributeError, match="module 'kdxai' has no attribute 'nothing'"):
        _ = kdxai.nothing
    with pytest.raises(ImportError, match="nothing"):
        from kdxai import nothing  # noqa: F401


def test_evaluate_is_a_module_and_its_function(monkeypatch):
    from kdxai import evaluate as module
    from kdxai.evaluate import evaluate as function

    assert module.evaluate is function
    monkeypatch.setattr(module, "evaluate", lambda *a, **k: (a, k))
    assert kdxai.evaluate(1, chunk=2) == ((1,), {"chunk": 2})


def test_one_version_and_a_licence():
    assert PROJECT["project"]["dynamic"] == ["version"]
    assert re.fullmatch(r"\d+\.\d+\.\d+", kdxai.__version__)
    assert f"\n## {kdxai.__version__}\n" in (ROOT / "CHANGELOG.md").read_text()
    assert f"\nversion: {kdxai.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert PROJECT["project"]["license"] == "Apache-2.0"
    licence = (ROOT / PROJECT["project"]["license-files"][0]).read_text()
    assert "Apache License" in licence and "END OF TERMS AND CONDITIONS" in licence


def test_every_folder_is_in_the_wheel():
    """And every file in it that is no module; `.ci/run` builds one and uses it."""
    settings = PROJECT["tool"]["setuptools"]
    folders = {
        path.parent
        for path in (ROOT / "kdxai").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    packages = {".".join(folder.relative_to(ROOT).parts): folder for folder in folders}
    moved = {package: ROOT / folder for package, folder in settings["package-dir"].items()}
    assert moved == {"kdxai.configs": ROOT / "configs", "kdxai.launch": ROOT / "launch"}
    packages |= moved
    assert sorted(packages) == settings["packages"]
    for package, folder in packages.items():
        patterns = settings["package-data"].get(package, [])
        for path in folder.iterdir():
            if path.is_file() and path.suffix != ".py":
                assert any(path.match(pattern) for pattern in patterns), path


def test_the_command_is_there():
    module, function = PROJECT["project"]["scripts"]["kdxai"].split(":")
    assert module == "kdxai.cli"
    assert callable(getattr(cli, function))
