"""What MkDocs is told beside mkdocs.yml: links that leave docs/, and the notebook as a page."""

import posixpath
import re
from pathlib import Path
from typing import Any

import nbformat
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient

OUTSIDE = re.compile(r"(?<!!)\[([^\]]+)\]\(((?:\.\./)+[^)#\s]+)(?:#[^)]*)?\)")
NOTEBOOK = "notebook.ipynb"


def on_page_markdown(markdown: str, page: Any, **_: Any) -> str:
    """What is no page of the site becomes its path: `[text](../a.py)` -> text (`a.py`)."""
    folder = posixpath.join("docs", posixpath.dirname(page.file.src_uri))

    def plain(link: re.Match[str]) -> str:
        text, target = link.groups()
        place = posixpath.normpath(posixpath.join(folder, target))
        if place.startswith("docs/"):
            return link[0]
        return text if text.strip("`") == place else f"{text} (`{place}`)"

    return OUTSIDE.sub(plain, markdown)


def on_files(files: Files, config: Any) -> Files:
    """Run the notebook; an error in it ends the build."""
    source = Path(config.docs_dir) / NOTEBOOK
    notebook = nbformat.read(source, as_version=4)
    NotebookClient(notebook, timeout=300).execute()
    text = "\n\n".join(part for cell in notebook.cells for part in shown(cell))
    files.append(File.generated(config, "notebook.md", content=text))
    return files


def shown(cell: Any) -> list[str]:
    """A cell and what it prints and draws, as Markdown."""
    if cell.cell_type == "markdown":
        return [cell.source]
    found = [f"```python\n{cell.source}\n```"]
    for output in cell.outputs:
        data = output.get("data", {})
        if "image/png" in data:
            picture = data["image/png"].replace("\n", "")
            found.append(f"![What the cell shows](data:image/png;base64,{picture})")
        elif text := output.get("text") or data.get("text/plain"):
            found.append(f"```text\n{text.rstrip()}\n```")
    return found
