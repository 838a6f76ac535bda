"""The notebook run as Jupyter runs it, with parameters of one's own; as a program it keeps what comes out.

python tests/notebook.py DATA      runs docs/ebjr.ipynb on all images and writes its outputs into it
"""

import sys
from pathlib import Path

import nbformat
from common import ROOT
from nbclient import NotebookClient

NOTEBOOK = ROOT / "docs" / "ebjr.ipynb"


def execute(data: Path, images: int) -> nbformat.NotebookNode:
    """The notebook with its outputs; what went to stderr, such as progress, is left out.

    Raises:
        CellExecutionError: a cell fails.
    """
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    first = next(cell for cell in notebook.cells if "parameters" in cell.metadata.get("tags", ()))
    stated = first.source
    first.source = f'%cd -q ..\ndata, images = "{data}", {images}'
    NotebookClient(notebook, timeout=3600, resources={"metadata": {"path": NOTEBOOK.parent}}).execute()
    first.source = stated
    for cell in notebook.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    return notebook


if __name__ == "__main__":
    nbformat.write(execute(Path(sys.argv[1]).resolve(), 10_000), NOTEBOOK)
