"""What every explorer shares: controls above a board, and one place where callbacks are guarded."""

import base64
from collections.abc import Callable
from contextlib import contextmanager

import ipywidgets as widgets
import traitlets

from ..board import Board


class Slider(widgets.IntSlider):
    """An IntSlider whose moves the kernel does not send back: the page would handle that echo before the picture.

    The echo keeps several windows on one kernel in step; without it another window's slider stays where it was.
    """

    value = traitlets.CInt(0).tag(sync=True, echo_update=False)

    def near(self) -> dict[int, int]:
        """The values to either side, by what the page knows them by: themselves."""
        return {value: value for value in (self.value - 1, self.value + 1) if self.min <= value <= self.max}


class Share(widgets.SelectionSlider):
    """A slider from `least` to `most` in steps, and the value that it begins with. Its moves are not sent back either.

    A value set in code goes to the nearest place. Not a FloatSlider: its page computes 0.6000000000000001, sends that
    back as if a hand had moved it, and by then code may have set the next value, which this would undo.
    """

    index = traitlets.Int(help="Selected index").tag(sync=True, echo_update=False)

    def __init__(self, value: float, *, least: float = 0.05, most: float = 1.0, step: float = 0.05, **keywords):
        count = round((most - least) / step)
        numbers = sorted({round(least + step * i, 2) for i in range(count + 1)} | {value})
        super().__init__(options=[(f"{number:.2f}", number) for number in numbers], value=value, **keywords)

    def near(self) -> dict[int, float]:
        """The values to either side, by what the page knows them by: the index of their place."""
        places = range(len(self.options))
        return {i: self.options[i][1] for i in (self.index - 1, self.index + 1) if i in places}

    @traitlets.validate("value")
    def _validate_value(self, proposal: dict) -> float:
        return min((number for _, number in self.options), key=lambda number: abs(number - proposal["value"]))


class Explorer(widgets.VBox):
    """Controls and a board. A subclass makes the controls, draws in `_update`, and registers callbacks by `_listen`.

    An exception in a widget's callback is invisible in JupyterLab. Here it is shown on the board in place of the
    picture, and raised again: to the cell that moved a control in code, to JupyterLab's log when a hand moved it.
    """

    def __init__(self, board: Board):
        super().__init__()
        self.board = board
        self.board.on_ahead = self._ahead
        self._held = False
        self._foreseen: dict[str, str] = {}

    def _listen(self, control: widgets.Widget, act: Callable[[], None] | None = None) -> None:
        """Call `act` (or `_update`) when the value of `control` changes."""
        guarded = self._guarded(act or self._update)
        control.observe(lambda change: None if self._held else guarded(), "value")

    def _foresee(self, *names: str) -> None:
        """The page may have what these sliders' next values would show before the hand moves: see `_steps`."""
        self._foreseen = {getattr(self, name).model_id: name for name in names}
        self.board.sliders = list(self._foreseen)

    def _steps(self, **moved: float) -> dict | None:
        """What the board would show, by `pack_steps`, with sliders `moved` to other values and all else as it is; None
        where more than the steps would change. It leaves no trace in the explorer."""
        raise NotImplementedError

    def _ahead(self, model: str) -> dict[int, dict]:
        """The steps one value to either side of a foreseen slider, by what the page knows that value by."""
        name = self._foreseen[model]
        steps = {known_by: self._steps(**{name: value}) for known_by, value in getattr(self, name).near().items()}
        return {known_by: shown for known_by, shown in steps.items() if shown is not None}

    def _guarded(self, act: Callable) -> Callable:
        def call(*arguments):
            try:
                return act(*arguments)
            except Exception as problem:
                self.board.error = f"{type(problem).__name__}: {problem}"
                raise

        return call

    @contextmanager
    def _hold(self):
        """Several controls change as one: their own callbacks stay quiet."""
        self._held = True
        try:
            yield
        finally:
            self._held = False

    def _repr_mimebundle_(self, **kwargs) -> dict:
        """The widget; and beside it a picture and its line of text, for viewers without a kernel and screen readers."""
        bundle = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = self.board.error or self.board.text
        bundle["image/png"] = base64.b64encode(self.board.snapshot()).decode("ascii")
        return bundle
