"""Predict, then look: a question whose answer is shown only after a guess, and a summary of a lesson's guesses."""

from collections.abc import Sequence
from html import escape

import ipywidgets as widgets
import traitlets
from ipywidgets import Layout

WIDE = Layout(width="auto", max_width="900px")


class Guess(widgets.VBox):
    """A question with options; choosing one says whether it held, and why.

    All words are plain text. options: the choices; `answer` is the index of the right one; `why` is said whichever was
    chosen.
    `picked` is the index of the first choice, None before it; later choices do not change it. `held` says whether it
    was right.
    """

    picked = traitlets.Int(None, allow_none=True)

    def __init__(self, question: str, options: Sequence[str], answer: int, why: str):
        if not 0 <= answer < len(options):
            raise ValueError(f"answer must be from 0 to {len(options) - 1}; got {answer}")
        super().__init__()
        self.question, self.options, self.answer, self.why = question, list(options), answer, why
        self.choice = widgets.RadioButtons(options=self.options, value=None, layout=WIDE)
        self.verdict = widgets.HTML("", layout=WIDE)
        self.choice.observe(self._chosen, "index")
        asked = widgets.HTML(f'<div style="line-height:1.4"><b>Predict:</b> {escape(question)}</div>', layout=WIDE)
        self.children = [asked, self.choice, self.verdict]

    @property
    def held(self) -> bool | None:
        return None if self.picked is None else self.picked == self.answer

    def _chosen(self, change: dict) -> None:
        index = change["new"]
        if index is None:  # taken back in code: the first choice stands
            return
        if self.picked is None:
            self.picked = index
        verdict = "✓ It held." if index == self.answer else f"✗ It did not hold: {self.options[self.answer]}."
        self.verdict.value = f'<div style="line-height:1.4"><b>{escape(verdict)}</b> {escape(self.why)}</div>'

    def told(self) -> str:
        """What was guessed, and whether it held, in one line of plain text. An open answer is not given away."""
        if self.picked is None:
            return f"– {self.question} Not answered yet."
        said, right = self.options[self.picked], self.options[self.answer]
        ending = "It held." if self.held else f"It did not hold: {right}."
        return f"{'✓' if self.held else '✗'} {self.question} You said: {said}. {ending}"

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}

    def __repr__(self) -> str:
        return f"Predict: {self.question} ({' / '.join(self.options)})"


class Guesses(widgets.VBox):
    """The guesses of a lesson. `ask` takes what Guess takes and shows it; the collector, shown at the lesson's end,
    sums up what was guessed, and follows when a guess is made later.

        guesses = Guesses()
        guesses.ask("Which comes first?", ["the hen", "the egg"], answer=1, why="Dinosaurs laid eggs.")
        guesses
    """

    def __init__(self):
        super().__init__()
        self.asked: list[Guess] = []
        self._words = widgets.HTML("", layout=WIDE)
        self.children = [self._words]
        self._sum_up()

    def ask(self, question: str, options: Sequence[str], answer: int, why: str) -> Guess:
        """A new Guess; a cell that is run again gets the one that it made before, with what was guessed."""
        guess = Guess(question, options, answer, why)
        for before in self.asked:
            if (before.question, before.options) == (question, guess.options):
                return before
        self.asked.append(guess)
        guess.observe(self._sum_up, "picked")
        self._sum_up()
        return guess

    def _lines(self) -> list[str]:
        answered = [guess for guess in self.asked if guess.held is not None]
        held = sum(guess.held for guess in answered)
        first = f"{held} of {len(answered)} predictions held" if answered else "No prediction has been made yet"
        left = len(self.asked) - len(answered)
        first += f"; {left} not answered." if left else "."
        return [first, *(guess.told() for guess in self.asked)]

    def _sum_up(self, _=None) -> None:
        first, *rest = self._lines()
        words = "<br>".join(escape(line) for line in rest)
        self._words.value = f'<div style="line-height:1.5"><b>{first}</b><br>{words}</div>'

    def _repr_mimebundle_(self, **kwargs) -> dict:
        return super()._repr_mimebundle_(**kwargs) | {"text/plain": repr(self)}

    def __repr__(self) -> str:
        return "\n".join(self._lines())
