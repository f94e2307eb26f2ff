"""README and docs/: Python blocks are run, commands are parsed, links lead somewhere."""

import ast
import contextlib
import json
import re
import runpy
import shlex
import shutil
import subprocess
import sys
import tomllib
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import jax
import numpy as np
import pytest
from markdown_it import MarkdownIt
from PIL import Image
from scripts import ROOT, call

from kdxai import METHODS, measures, models, protocol
from kdxai.models import trained
from kdxai.models.trained import Trained

pytest.importorskip("ml_collections", reason="commands need kdxai[study]")
from kdxai import cli

DOCS = ROOT / "docs"
PAGES = sorted([*ROOT.glob("*.md"), *DOCS.rglob("*.md")])
EXTENDING, NOTEBOOK = DOCS / "extending.md", DOCS / "notebook.ipynb"
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
LANGUAGES = {"bash", "diff", "python", "text"}
LONG = {"own-model", "torch"}  # pages that take seconds: many libraries, each compiled
END = {"&&", "||", ";", "|", "&"}


class Block(NamedTuple):
    language: str
    text: str


def blocks(page, language):
    """The code of a page; what is indented and no fence is a command."""
    found = [
        Block(token.info or "bash", token.content)
        for token in MarkdownIt().parse(page.read_text())
        if token.type in ("fence", "code_block")
    ]
    assert {block.language for block in found} <= LANGUAGES, page
    return [block.text for block in found if block.language == language]


def having(language):
    return [page for page in PAGES if blocks(page, language)]


def named(page):
    return page.relative_to(ROOT).as_posix()


def require_imports(text):
    """Skip where a page needs what is not installed."""
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            top = name.partition(".")[0]
            if not (DOCS.parent / "examples" / f"{top}.py").exists() and not find_spec(top):
                pytest.skip(f"{top} is not installed")


@pytest.mark.parametrize(
    "page",
    [
        pytest.param(page, marks=[pytest.mark.slow] if page.stem in LONG else [])
        for page in having("python")
        if page != EXTENDING
    ],
    ids=named,
)
def test_python(page, monkeypatch, tmp_path):
    """The blocks of a page, from top to bottom, as a reader pastes them."""
    text = "\n".join(blocks(page, "python"))
    require_imports(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(ROOT / "examples")
    quick = tmp_path / "runs" / "quick"
    quick.mkdir(parents=True)
    shutil.copy(DOCS / "results" / "cifar10-small" / "table1.csv", quick)
    exec(compile(text, named(page), "exec"), {"__name__": "page"})


def test_notebook_is_short_and_without_outputs():
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    assert not any(cell.get("outputs") for cell in cells)
    assert len("\n".join(code).splitlines()) < 100


@pytest.mark.slow
def test_notebook(monkeypatch, tmp_path):
    """By a kernel where there is one, as for the site; else its cells as they are."""
    monkeypatch.chdir(tmp_path)
    if find_spec("nbclient") and find_spec("ipykernel"):
        import nbclient
        import nbformat

        notebook = nbformat.read(NOTEBOOK, as_version=4)
        nbclient.NotebookClient(notebook, timeout=120).execute()
        return
    cells = json.loads(NOTEBOOK.read_text())["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    exec(compile("\n".join(code), "notebook", "exec"), {"__name__": "notebook"})


def logical(text):
    """The lines of a shell's text, those that are continued as one."""
    return [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]


def commands(text):
    """[script, *arguments] of every launch script in a text, also in what is given to others."""
    for line in logical(text):
        lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
        lexer.whitespace_split = True
        words = [re.sub(r"\$\w+", "1", word) for word in lexer]
        for place, word in enumerate(words):
            if " " in word and "launch/" in word:
                yield from commands(word)
            elif re.fullmatch(r"launch/\w+\.py", word):
                yield until_end([word, *words[place + 1 :]])
            elif word == "kdxai" and words[place + 1] in cli.COMMANDS:
                yield until_end([f"launch/{words[place + 1]}.py", *words[place + 2 :]])


def until_end(words):
    ends = [place for place, word in enumerate(words) if word in END]
    return words[: min(ends, default=len(words))]


def parsed(command, monkeypatch):
    """The config that a command asks for; nothing is run."""
    found = []

    def run(_, *, needs, flags=None):
        found.append(cli.parse_command(sys.argv, needs, cli.FLAGS | dict(flags or {}))[0])

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setattr(sys, "argv", command)
    runpy.run_path(command[0], run_name="__main__")
    return found[0]


@pytest.mark.parametrize("page", having("bash"), ids=named)
def test_commands(page, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("KDXAI_ZOO", str(tmp_path))
    text = "\n".join(blocks(page, "bash"))
    subprocess.run(["bash", "-n"], input=text, text=True, check=True)
    for extras in re.findall(r"pip install[^\n]*?\[([\w,]+)\]", text):
        assert set(extras.split(",")) <= EXTRAS.keys(), extras
    for command in commands(text):
        config = parsed(command, monkeypatch)
        settings = config.get("evaluation", config)
        for name in listed(settings, "methods"):
            protocol.require_method(name)
        measures.require_known(listed(settings, "metrics"))


def listed(settings, key):
    return [name for name in settings.get(key, "").split(",") if name]


def test_commands_are_found_and_checked(monkeypatch):
    monkeypatch.chdir(ROOT)
    text = """sbatch --wrap="srun python launch/train.py \\
        --config configs/teacher.py --workdir w" && kdxai study --config study.py --workdir w | cat
    """
    train, study = commands(text)
    assert train == ["launch/train.py", "--config", "configs/teacher.py", "--workdir", "w"]
    assert study == ["launch/study.py", "--config", "study.py", "--workdir", "w"]
    assert parsed(train, monkeypatch).model.name == "wrn-28-10"
    with pytest.raises(cli.UserError, match="epoch"):
        parsed([*train, "--config.epoch=3"], monkeypatch)


def test_every_command_and_recipe_is_told():
    """Of what a user can start, nothing is without a page."""
    text = "\n".join(text for page in PAGES for text in blocks(page, "bash"))
    assert {command[0] for command in commands(text)} == {f"launch/{c}.py" for c in cli.COMMANDS}


def targets(page):
    for token in MarkdownIt().enable("table").parse(page.read_text()):
        for child in token.children or ():
            yield from (child.attrs[key] for key in ("href", "src") if key in child.attrs)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_links(page):
    for target in targets(page):
        place = target.partition("#")[0]
        if place and not re.match(r"[a-z]+:", target):
            assert (page.parent / place).exists(), target


def test_the_first_screen():
    text = (ROOT / "README.md").read_text()
    assert len(text.split()) <= 900
    first = text.partition("\n## ")[0]
    assert "![" in first, "a picture comes first"
    metrics = sum(len(measure.columns) for measure in measures.MEASURES.values())
    assert f"{len(METHODS)} explanation [methods]" in text and f"{metrics} [metrics]" in text
    assert all(path.stat().st_size < 150_000 for path in DOCS.glob("pictures/*"))


def test_tables_are_those_of_the_code():
    """`python docs/tables.py` renews them."""
    for path, text in runpy.run_path(str(DOCS / "tables.py"))["renewed"]():
        assert path.read_text() == text, f"python docs/tables.py renews {path.name}"


def test_differences_apply():
    """Those of the page about extending; git is where there is a clone."""
    if not shutil.which("git"):
        pytest.skip("there is no git")
    apply(ROOT, "--check")


@pytest.mark.slow
def test_extending(tmp_path):
    if not shutil.which("git"):
        pytest.skip("there is no git")
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kdxai", tmp_path / "kdxai", ignore=ignored)
    apply(tmp_path)
    code = "\n".join(blocks(EXTENDING, "python"))
    with contextlib.chdir(tmp_path):
        subprocess.run([sys.executable, "-c", code], check=True)


def apply(folder: Path, *options):
    text = "\n".join(blocks(EXTENDING, "diff"))
    subprocess.run(["git", "apply", *options, "-"], cwd=folder, input=text, text=True, check=True)


@pytest.mark.slow
def test_a_photograph(tmp_path):
    """The README's command, on a tiny network and a picture of noise."""
    network = models.create("plain3-w4", num_classes=2)
    variables = network.init(jax.random.key(0), np.zeros((1, 16, 16, 3), np.float32))
    half = np.full(3, 0.5, np.float32)
    architecture, place = {"name": "plain3-w4"}, tmp_path / "runs" / "quick" / "seed0" / "student"
    model = Trained(network, architecture, variables, half, half, ("a", "b"), (16, 16, 3), {})
    trained.save(model, place)
    (tmp_path / "photos").mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "photos" / "one.jpg")
    text = "\n".join(blocks(ROOT / "README.md", "bash"))
    (command,) = (one for one in commands(text) if one[0] == "launch/explain.py")
    moved = [re.sub(r"(^|=)(runs|photos)/", rf"\1{tmp_path}/\2/", word) for word in command[1:]]
    ended = call("explain.py", *moved)
    assert ended.returncode == 0, ended.stderr
    assert (tmp_path / "runs" / "photos" / "gallery.html").exists()
