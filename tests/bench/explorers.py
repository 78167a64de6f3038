"""From a key to the painted picture in the lessons' explorers, against the empty explorer of `sliders`."""

import tempfile
from pathlib import Path

import nbformat

from ..browser import lab
from .sliders import EMPTY, HOOKS, Bench, table

SCENE = "from blendlab.pictures import scene\npicture = scene(38, 'held_out')\n"
BLENDER = "from blendlab.explorers import BlenderExplorer\nBlenderExplorer('voc', source='fitted', instance=16)"
CELLS = {
    "empty": EMPTY,
    "blender": BLENDER,
    "microscope": "from blendlab.explorers import Microscope\nMicroscope()",
    "interpolate": "from blendlab.explorers import InterpolateExplorer\nInterpolateExplorer()",
    "softmax": "from blendlab.explorers import SoftmaxExplorer\nSoftmaxExplorer()",
    "hull": "from blendlab.explorers import HullExplorer\nHullExplorer('voc', source='fitted', instance=16)",
    "paste": "from blendlab.explorers import PasteExplorer\nPasteExplorer()",
    "location": SCENE + "from blendlab.explorers import LocationExplorer\nLocationExplorer(picture)",
    "attention": SCENE + "from blendlab.explorers import AttentionExplorer\nAttentionExplorer(picture, instance=4)",
    "detector": SCENE + "from blendlab.explorers import DetectorExplorer\nDetectorExplorer(picture)",
}
MAPS, PHOTO = ".bl-grid", ".bl-photo svg"
GROUPS = (("blender", "microscope", "interpolate", "softmax", "hull", "paste"), ("location", "attention", "detector"))
# what is measured: the explorer, keys that come first on its maps, and the slider's name or the element for the keys
MOVES = {
    "empty": ("empty", (), "K"),
    "blender, R": ("blender", (), "R"),
    "blender, a pixel's origin": ("blender", ("ArrowDown",), MAPS),
    "blender, an attention cell's reach": ("blender", ("a",), MAPS),
    "blender, a base cell's reach": ("blender", ("b",), MAPS),
    "microscope, R": ("microscope", (), "R"),
    "microscope, the box": ("microscope", (), PHOTO),
    "interpolate, R": ("interpolate", (), "R"),
    "softmax, M": ("softmax", (), "M"),
    "hull, the pixel": ("hull", (), MAPS),
    "paste, x": ("paste", (), "x"),
    "location, column": ("location", (), "column"),
    "location, K": ("location", (), "K"),
    "attention, K": ("attention", (), "K"),
    "detector, threshold": ("detector", (), "threshold"),
    "detector, NMS": ("detector", (), "NMS at IoU"),
}


def measure(steps: int = 48) -> str:
    tables = [_group({"empty", *explorers}, steps) for explorers in GROUPS]  # more pages at once disturb one another
    return "\n".join(["## Explorers of the lessons, key to painted picture\n", *tables])


def _group(explorers: set[str], steps: int) -> str:
    """These explorers, each in a notebook with a kernel of its own, side by side in one browser."""
    keys = ["ArrowRight", "ArrowRight", "ArrowLeft", "ArrowLeft"] * (steps // 8)
    moves = {name: move for name, move in MOVES.items() if move[0] in explorers}
    found: dict[str, list[float]] = {name: [] for name in moves}
    with tempfile.TemporaryDirectory() as folder, lab.browser() as chrome:
        root = Path(folder, "root")
        root.mkdir()
        kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3"}}
        for name in explorers:
            cells = [nbformat.v4.new_code_cell(CELLS[name])]
            nbformat.write(nbformat.v4.new_notebook(cells=cells, metadata=kernel), root / f"{name}.ipynb")
        with lab.jupyterlab(root, Path(folder)) as url:
            opened = {name: _open(chrome, url, f"{name}.ipynb") for name in sorted(explorers)}
            for _ in range(2):  # in turns, so that a slower minute of the machine falls on all
                for name, (explorer, first, where) in moves.items():
                    found[name] += _move(opened[explorer], first, where, keys)
            problems = [problem for notebook in opened.values() for problem in notebook.problems]
    assert not problems, problems
    return table(found)


def _open(chrome, url: str, name: str) -> Bench:
    notebook = Bench(chrome, url, name, script=HOOKS)
    notebook.page.evaluate("() => jupyterapp.commands.execute('notebook:run-all-cells')")
    notebook.page.wait_for_selector(".jp-OutputArea canvas >> visible=true", timeout=180_000)
    return notebook


def _move(notebook: Bench, first: tuple[str, ...], where: str, keys: list[str]) -> list[float]:
    notebook.page.bring_to_front()
    if first:
        notebook.keys(notebook.page.locator(MAPS), [*first])
    element = notebook.page.locator(where).first if where.startswith(".") else notebook.slider(where)
    return notebook.keys(element, keys)
