"""Predict, then look: a question whose answer is shown only after a guess."""

from collections.abc import Sequence

import ipywidgets as widgets
from ipywidgets import Layout


class Guess(widgets.VBox):
    """A question with options; choosing one says whether it held, and why.

    options: the choices; `answer` is the index of the right one; `why` is said whichever was chosen.
    `held` is True or False after the first choice, None before. Later choices do not change it.
    """

    def __init__(self, question: str, options: Sequence[str], answer: int, why: str):
        if not 0 <= answer < len(options):
            raise ValueError(f"answer must be from 0 to {len(options) - 1}; got {answer}")
        super().__init__()
        self.question, self.answer, self.why = question, answer, why
        self.held: bool | None = None
        wide = Layout(width="auto", max_width="900px")
        self.choice = widgets.RadioButtons(options=list(options), value=None, layout=wide)
        self.verdict = widgets.HTML("", layout=wide)
        self.choice.observe(self._chosen, "index")
        self.children = [widgets.HTML(f"<b>Predict:</b> {question}", layout=wide), self.choice, self.verdict]

    def _chosen(self, change: dict) -> None:
        right = change["new"] == self.answer
        if self.held is None:
            self.held = right
        verdict = "✓ It held." if right else f"✗ It did not hold: {self.choice.options[self.answer]}."
        self.verdict.value = f"<b>{verdict}</b> {self.why}"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        bundle = super()._repr_mimebundle_(**kwargs)
        bundle["text/plain"] = repr(self)
        return bundle

    def __repr__(self) -> str:
        return f"Predict: {self.question} ({' / '.join(self.choice.options)})"
