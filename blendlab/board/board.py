"""Python's side of the board. It holds what is shown, as plain numbers; the page draws it.

A slider step sends one message: the panels' codes (uint8) in one buffer, and a list that says which bytes are what.
"""

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import anywidget
import numpy as np
import traitlets

from ..explain_views import Told
from ..pictures import Picture
from ..views import Lattice, Panel, PixelSum, written
from .snapshot import draw

HERE = Path(__file__).parent
COLOURS = json.loads((HERE / "colours.json").read_text())
PAGE = ("sheet", "panel", "photo", "easel", "pointer", "ahead", "board")  # a widget's page has one file: these, joined


class Board(anywidget.AnyWidget):
    """A photograph with boxes and a mask, a grid of panels (a column a step, a row a basis), a text line.

    Call `show_picture`, `show_bases` and `show_steps`; set `boxes`, `text`, `notes`, `timing`, `error`. Events come to
    the functions given to `on_click(x, y)` (image pixels), `on_pixel(row, column)` or `on_pixel(None, None)`,
    `on_cell(panel's name, k, row, column)` for a cell of a panel that has `cells` (None: wherever it last was), and
    `on_box(x1, y1, x2, y2)`; on a `fixed` board `on_step(dx, dy)`, of -1, 0 and 1. When the hand that moved one of the
    `sliders` rests, `on_ahead(its model)` is asked for {value: `pack_steps` of it}: what the values nearby would show.
    """

    _esm = "".join((HERE / f"{part}.js").read_text() for part in PAGE)
    _css = HERE / "board.css"

    colours = traitlets.Dict(COLOURS).tag(sync=True)
    transposed = traitlets.Bool(False).tag(sync=True)  # steps as rows, as the paper's figure has them
    # boxes cannot be dragged; arrow keys are steps; a click on a map of the image is one on the photograph
    fixed = traitlets.Bool(False).tag(sync=True)
    rows = traitlets.List(traitlets.Unicode()).tag(sync=True)  # what the grid's rows are called instead of k = 0, ...
    hint = traitlets.Unicode("").tag(sync=True)  # what can be done here, in place of the usual line
    picture = traitlets.Dict({}).tag(sync=True)
    bases = traitlets.Dict({}).tag(sync=True)
    steps = traitlets.Dict({}).tag(sync=True)
    boxes = traitlets.List(traitlets.Float()).tag(sync=True)  # x1, y1, x2, y2 of each instance, one after the other
    pointer = traitlets.Unicode("").tag(sync=True)  # see `point`
    nudge = traitlets.Float(1.0).tag(sync=True)  # by how many image pixels an arrow key moves a box
    text = traitlets.Unicode("").tag(sync=True)
    notes = traitlets.List(traitlets.Unicode()).tag(sync=True)
    timing = traitlets.Unicode("").tag(sync=True)
    error = traitlets.Unicode("").tag(sync=True)
    tool = traitlets.Enum(("", "box", "brush", "erase"), "").tag(sync=True)  # what the pointer does on the photograph
    brush = traitlets.Float(12.0).tag(sync=True)  # its radius in image pixels
    painted = traitlets.Dict({}).tag(sync=True)
    # x1, y1, x2, y2 and the time, set by the page while a box is dragged; a trait, since ipywidgets then keeps only the
    # newest of waiting values
    dragged = traitlets.List(traitlets.Float()).tag(sync=True, echo_update=False)
    sliders = traitlets.List(traitlets.Unicode()).tag(sync=True)  # the models of those that `on_ahead` knows

    def __init__(self, *, transposed: bool = False, fixed: bool = False, rows: Sequence[str] = (), hint: str = ""):
        super().__init__(transposed=transposed, fixed=fixed, rows=list(rows), hint=hint)
        self.on_click: Callable[[float, float], None] = lambda x, y: None
        self.on_pixel: Callable[[int | None, int | None], None] = lambda row, column: None
        self.on_cell: Callable[[str, int | None, int | None, int | None], None] = lambda name, k, row, column: None
        self.on_box: Callable[[float, float, float, float], None] = lambda *box: None
        self.on_step: Callable[[int, int], None] = lambda dx, dy: None
        self.observe(lambda change: change["new"] and self.on_box(*change["new"][:4]), "dragged")
        self.on_new_box: Callable[[float, float, float, float], None] = lambda *box: None
        self.on_stroke: Callable[[list[list[float]], float, bool], None] = lambda points, radius, erase: None
        self.on_ahead: Callable[[str], dict[int, dict]] = lambda slider: {}
        self._serial = 0  # of the steps
        self._stroke = 0  # the page's number of the last stroke that came
        self.on_msg(self._event)

    def show_picture(self, picture: Picture) -> None:
        height, width = picture.size
        self.picture = {
            "name": picture.name,
            "width": width,
            "height": height,
            "rgb": np.ascontiguousarray(picture.image).tobytes(),
        }

    def show_bases(self, panel: Panel) -> None:
        self.bases = _pack([panel])

    def show_steps(
        self, panels: Sequence[Panel], selected: int, pixel: PixelSum | None, told: Told | None = None
    ) -> None:
        """See `pack_steps`."""
        self.show_packed(pack_steps(panels, selected, pixel, told))

    def show_packed(self, steps: dict) -> None:
        """What `pack_steps` made."""
        self._serial += 1
        self.steps = steps | {"serial": self._serial}

    def point(
        self,
        dots: Sequence[tuple[float, float]] = (),
        lines: Sequence[tuple[float, float, float, float]] = (),
        cells: Sequence[tuple[float, float, float, str]] = (),
    ) -> None:
        """Draw over the photograph, in image pixels: dots x, y; lines x1, y1, x2, y2; cells x, y, side, text."""
        words = {"dots": dots, "lines": lines, "cells": cells}
        self.pointer = json.dumps({name: [_rounded(shape) for shape in shapes] for name, shapes in words.items()})

    def show_painted(self, mask: np.ndarray) -> None:
        """The mask (H,W) bool under the reader's brush. It is seen while `tool` is set; the blended one otherwise."""
        height, width = mask.shape
        bits = np.packbits(mask).tobytes()  # row after row, without gaps
        self.painted = {"width": width, "height": height, "bits": bits, "last": self._stroke}

    def snapshot(self) -> bytes:
        """A PNG of what the board shows, for viewers without a kernel."""
        painted = self.painted if self.tool else {}
        return draw(
            self.picture, self.bases, self.steps, self.boxes, self.error, self.transposed, painted, self.pointer
        )

    def _event(self, _, content: dict, buffers: list) -> None:
        if content["kind"] == "click":
            self.on_click(content["x"], content["y"])
        elif content["kind"] == "pixel":
            self.on_pixel(content["row"], content["column"])
        elif content["kind"] == "new_box":
            self.on_new_box(*content["box"])
        elif content["kind"] == "stroke":
            self._stroke = content["id"]
            self.on_stroke(content["points"], content["radius"], content["erase"])
        elif content["kind"] == "step":
            self.on_step(content["dx"], content["dy"])
        elif content["kind"] == "cell":
            self.on_cell(content["name"], content["k"], content["row"], content["column"])
        elif content["kind"] == "ahead":
            self._send_ahead(content["slider"])

    def _send_ahead(self, slider: str) -> None:
        serial = self._serial  # the page drops what is beside other steps than it has
        near = self.on_ahead(slider)
        words = {"values": list(near), "words": [steps["words"] for steps in near.values()]}
        self.send({"kind": "ahead", "slider": slider, "serial": serial} | words, [s["codes"] for s in near.values()])


def pack_steps(
    panels: Sequence[Panel],
    selected: int,
    pixel: PixelSum | None,
    told: Told | None = None,
    boxes: Sequence[float] | None = None,
) -> dict[str, str | bytes]:
    """As `_pack`: the steps of the instance whose box is the `selected` of `boxes`, the sum at the pinned pixel, what
    is told of that pixel or of the chosen cell: lines below the sum, and marks (the panels hold their own). boxes: the
    board's, for steps whose next values move them; the board is to be given the same."""
    more = (
        {
            "heading": told.heading,
            "lines": told.lines,
            "cell": told.cell,
            "base_marks": _lattices(told.marks.get("bases", ())),
        }
        if told
        else {}
    )
    if boxes is not None:
        more["boxes"] = list(boxes)
    return _pack(panels, selected=selected, pixel=None if pixel is None else _written(pixel), **more)


def _rounded(shape: Sequence[float | str]) -> list[float | str]:
    return [number if isinstance(number, str) else round(number, 3) for number in shape]


def _written(pixel: PixelSum) -> dict:
    """The numbers as they are shown. As words: JSON has no NaN, and the page must not round again."""

    def word(number: float) -> str:
        return written(number, pixel.DIGITS)

    return vars(pixel) | {
        "rows": [[word(number) for number in row] for row in pixel.rows],
        "total": word(pixel.total),
        "probability": word(pixel.probability),
    }


def _lattices(marks: Sequence[Lattice]) -> list[dict]:
    return [_lattice(lattice) for lattice in marks]


def _lattice(marks: Lattice) -> dict:
    xs, ys = ([round(float(place), 3) for place in along] for along in (marks.xs, marks.ys))
    return {"shape": marks.shape, "xs": xs, "ys": ys, "only": marks.only}


def _pack(panels: Sequence[Panel], **more: object) -> dict:
    """{"words": JSON that says what the panels are (and `more`), "codes": their uint8 values one after the other}.

    JSON in one string, since ipywidgets otherwise walks through every number in search of buffers: half a step's time.
    """
    codes = [panel.codes() for panel in panels]
    words = {
        "panels": [
            {
                "name": panel.name,
                "shape": values.shape,
                "colours": panel.colours,
                "low": panel.low,
                "high": panel.high,
                "title": panel.title,
                "equation": panel.equation,
                "description": panel.description,
                "space": panel.space,
                "large": panel.large,
                "cells": panel.cells,
                "ends": panel.ends,
                "marks": _lattices(panel.marks),
            }
            for panel, values in zip(panels, codes, strict=True)
        ],
        **more,
    }
    return {"words": json.dumps(words), "codes": b"".join(values.tobytes() for values in codes)}
