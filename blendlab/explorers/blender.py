"""The explorer of the blender: pick an instance, drag its box, move K, M and R, and see every step.

One letter legend: N boxes, K bases, M attention side, R output side.
"""

import time
from collections.abc import Callable, Mapping

import numpy as np
import torch

from .. import check, views
from ..blender import BlendTrace
from ..board import Board, pack_steps
from ..explain_views import marked
from ..paste import mask_iou
from ..pictures import Picture, load
from ..pictures.picture import check_boxes
from ..sources import Source, is_composed, random_source, trained_source
from ..threads import one_thread
from . import words
from .controls import BlenderControls, normalizers
from .device import Blending, is_choice
from .provenance import Provenance

Sources = Mapping[str, Source | Callable[[], Source]]
START = {"K": 4, "M": 14, "R": 56}
FIGURE = ("regions", "scores", "products", "probabilities")


class BlenderExplorer(BlenderControls):
    """Every step of the blender on a picture, live.

    picture     a name that blendlab.pictures.load knows, or a Picture.
    sources     name -> Source, or a function that makes it when it is first chosen. Absent: "fitted", "trained" and
                "random"; on a composed scene, which is what the trained model knows, "trained" comes first.
    source      the name to start with; absent, the first.
    instance, K, M, R   where to start; K, M and R move to the nearest that the source serves.
    device      where to blend: "cpu" or "cuda"; where there is a GPU a menu switches it. Only what the panels show is
                copied from there.
    figure      the paper's figure come alive: a row of cropped bases, a row of weights, a row of products, their sum;
                of the controls the instance alone is shown.

    The controls are attributes (K, M, R, source, instance, normalizer, order, interpolation, pooling, aligned,
    sampling_ratio): set `explorer.M.value = 7` and the picture follows. `trace` holds every intermediate of the
    selected instance, `iou` the mask's IoU with the truth, `text` the line under the board.
    """

    against = "the true mask"  # what `iou` compares with, in words
    _first_pin: tuple[float, float] | None = None  # shares of the box, as _pin
    whole_bases = True  # whether the board's first column shows the bases of the whole image

    def __init__(
        self,
        picture: str | Picture = "voc",
        *,
        sources: Sources | None = None,
        source: str | None = None,
        instance: int = 0,
        K: int = START["K"],
        M: int = START["M"],
        R: int = START["R"],
        device: str | torch.device = "cpu",
        figure: bool = False,
    ):
        super().__init__(Board(transposed=figure))
        self.picture = load(picture) if isinstance(picture, str) else picture
        if not isinstance(self.picture, Picture):
            raise TypeError(f"picture must be a Picture or a name for load(); got {type(picture).__name__}")
        self._sources = dict(sources) if sources is not None else self._default_sources()
        if not self._sources:
            raise ValueError("sources must name at least one source; got none")
        if source is not None and source not in self._sources:
            raise ValueError(f"source must be one of {', '.join(self._sources)}; got {source!r}")
        if len(self.picture) and not 0 <= check.whole("instance", instance) < len(self.picture):
            raise ValueError(f"instance must be from 0 to {len(self.picture) - 1}; got {instance}")
        self._wanted = {"K": check.side("K", K), "M": check.side("M", M), "R": check.side("R", R)}
        self._first = (source or next(iter(self._sources)), instance, dict(self._wanted))
        self._source: Source | None = None
        self._making = False  # a source
        self.trace: BlendTrace | None = None
        self.iou = float("nan")
        self._boxes: dict[int, list[float]] = {}  # boxes that were moved
        self._pin: tuple[float, float] | None = None  # the pinned mask pixel, as shares of the box
        self._provenance = Provenance()
        self._device = device
        self._make_controls()
        self._connect()
        self.board.show_picture(self.picture)
        self._guarded(self._start)()

    # ------------------------------------------------------------------ controls

    def _connect(self) -> None:
        for letter in ("K", "M", "R"):
            self._listen(getattr(self, letter), lambda letter=letter: self._moved(letter))
        for control in (self.source, self.device):
            self._listen(control, self._source_changed)
        for name in ("instance", "normalizer", "order", "interpolation", "pooling", "sampling_ratio", "aligned"):
            self._listen(getattr(self, name))
        self._foresee("K", "M", "R")
        self.reset.on_click(self._guarded(lambda _: self._reset()))
        self.board.on_click = self._guarded(self._clicked)
        self.board.on_pixel = self._guarded(self._pinned)
        self.board.on_cell = self._guarded(self._cell_chosen)
        self.board.on_box = self._guarded(self._dragged)

    def _start(self) -> None:
        if not len(self.picture):
            for control in self._controls:
                control.disabled = True
            self.board.text = f"{self.picture.name}: no instance, so there is nothing to blend."
            return
        self._source_changed()

    def _source_changed(self) -> None:
        if not len(self.picture):
            return
        before, self._source = self._source, None  # if it cannot be made, no other one's picture goes by its name
        self._making = True  # JupyterLab may hand over a click in another thread meanwhile, and a fit takes long
        try:
            source = self._made(self.source.value)
        except KeyboardInterrupt:
            if before is None:
                raise
            return self._back_to(before)
        finally:
            self._making = False
        self._blend = Blending(source, self.device.value)
        self._source = source
        self._limits = views.Limits.of(source.bases, source.attention)
        with self._hold():
            for letter, (low, high) in zip("KMR", (source.K_range, source.M_range, source.R_range), strict=True):
                slider = getattr(self, letter)
                slider.min, slider.max = min(low, slider.max), high  # never a minimum above the maximum
                slider.min = low
                slider.value = min(max(self._wanted[letter], low), high)
        self._show_boxes()
        self._update(bases=True)

    def _back_to(self, before: Source) -> None:
        """Making another source was interrupted."""
        given_up = self.source.value
        with self._hold():
            self.source.value = next(name for name, source in self._sources.items() if source is before)
        self._making = False
        self._source_changed()
        self.board.notes = [f"The source {given_up} was interrupted: choose it again to begin anew.", *self.board.notes]

    def _progress(self, step: int, steps: int, loss: float) -> None:
        if step % max(1, steps // 50) == 0:
            self.board.notes = [f"fitting: step {step} of {steps}; interrupting the kernel gives it up"]

    def _default_sources(self) -> dict[str, Callable[[], Source]]:
        from ..fit import fitted

        picture = self.picture
        trained = {"trained": lambda: trained_source(picture)}
        first = trained if is_composed(picture) else {}
        # while nothing is shown, the bar of `fitted` itself is in sight, in the cell's output
        fit = {"fitted": lambda: fitted(picture, progress=self._progress if self.trace else None)}
        return first | fit | trained | {"random": lambda: random_source(picture)}

    def _made(self, name: str) -> Source:
        """The source of that name, made when it is first asked for."""
        source = self._sources[name]
        if callable(source):
            self.board.notes = [f"making the source {name!r} ..."]
            source = source()
        if not isinstance(source, Source):
            raise TypeError(f"sources[{name!r}] must be a Source or a function that makes one; got {check.got(source)}")
        if source.N != len(self.picture):
            wanted = f"must have the picture's number of instances, {len(self.picture)}"
            raise ValueError(f"sources[{name!r}] {wanted}; got {source.N}")
        self._sources[name] = source
        return source

    def _moved(self, letter: str) -> None:
        self._wanted[letter] = getattr(self, letter).value
        self._update()

    def _reset(self) -> None:
        if not len(self.picture):
            return
        name, instance, wanted = self._first
        self._wanted, self._boxes, self._pin, self._provenance.cell = dict(wanted), {}, self._first_pin, None
        with self._hold():
            self.source.value, self.instance.value = name, instance
            self._first_options()
        self._source_changed()

    # ------------------------------------------------------------------ what the hand does on the board

    def _clicked(self, x: float, y: float) -> None:
        """A click on the photograph: the instance there becomes the selected one; on that one, it pins the pixel."""
        if not len(self.picture) or self._source is None:
            return
        hit = self.picture.instance_at(x, y)
        box = self._box(self.instance.value)
        inside = box[0] <= x < box[2] and box[1] <= y < box[3]
        if hit is not None and hit != self.instance.value:
            self._pin = self._provenance.cell = None
            self.instance.value = hit
        elif inside:
            self._pin = ((x - box[0]) / (box[2] - box[0]), (y - box[1]) / (box[3] - box[1]))
            self._provenance.cell = None
            self._tell()

    def _pinned(self, row: int | None, column: int | None) -> None:
        R = self.R.value
        if row is not None and not (0 <= row < R and 0 <= column < R):
            return  # the click was made on a picture of another R, a moment ago
        self._pin = None if row is None else ((column + 0.5) / R, (row + 0.5) / R)
        self._provenance.cell = None
        self._tell()

    def _cell_chosen(self, name: str, k: int, row: int | None, column: int | None) -> None:
        """A cell of the bases or of the attention: where does it go? Without a place, the one that the pixel reads."""
        if self.trace is not None:
            self._provenance.choose(self.trace, name, k, row, column, self._pin)
            self._tell()

    def _dragged(self, *box: float) -> None:
        if not len(self.picture) or self._source is None:
            return
        check_boxes(np.array([box]))
        self._boxes[self.instance.value] = list(box)
        with self.board.hold_sync():
            self._show_boxes()
            self._update()

    def _show_boxes(self) -> None:
        self.board.boxes = [side for i in range(len(self.picture)) for side in self._box(i)]

    def _box(self, instance: int) -> list[float]:
        return self._boxes.get(instance) or self._source.boxes[instance].tolist()

    # ------------------------------------------------------------------ the one update

    @one_thread()
    @torch.no_grad()
    def _update(self, bases: bool = False) -> None:
        """Blend the selected instance with what the controls say, and show it."""
        if not len(self.picture) or self._making:
            return
        if self._source is None:
            return self._source_changed()  # it could not be made: again
        dropped = self._fit_normalizer(self._source.K1_normalizer, bases)
        began = time.perf_counter()
        self.trace = trace = self._blended(**self._sizes())
        milliseconds = 1000 * (time.perf_counter() - began)
        instance = self.instance.value
        self._provenance.truth = self.picture.masks[instance]
        if not self._provenance.holds(trace):
            self._provenance.cell = None
        steps = self._packed(trace)
        with self.board.hold_sync():
            if bases and self.whole_bases and not self.board.transposed:
                self.board.show_bases(views.base_panel(self._source.bases, self._limits))
            self.board.show_packed(steps)
            self.board.error = ""
        # the panels are on their way; what takes time to count, and to say, follows
        box = self._box(instance)
        self.iou = mask_iou(trace.probabilities[0], box, self.picture.masks[instance])
        with self.board.hold_sync():
            self.board.text = self._sentence(trace, box)
            self.board.notes = self._notes(trace, dropped)
            self.board.timing = f"blend {milliseconds:.2f} ms" + f" on {self.device.value}" * is_choice(self.device)

    @one_thread()
    @torch.no_grad()
    def _tell(self) -> None:
        """Another pixel or cell of the same blend."""
        if self.trace is None or self.board.error:
            return self._update()
        self.board.show_packed(self._packed(self.trace))

    @one_thread()
    @torch.no_grad()
    def _steps(self, **moved: int) -> dict | None:
        if self.trace is None or self._source is None or self._making:
            return None
        sizes = self._sizes() | moved
        if list(self.normalizer.options) != normalizers(sizes["K"]):
            return None  # the menu would change too
        return self._packed(self._blended(**sizes))

    def _sizes(self) -> dict[str, int]:
        return {"K": self.K.value, "M": self.M.value, "R": self.R.value}

    def _blended(self, K: int, M: int, R: int) -> BlendTrace:
        """The selected instance with everything but K, M and R as the controls have it."""
        instance = self.instance.value
        return self._blend(self._blender(R, self._source.spatial_scale), K, M, instance, self._boxes.get(instance))

    def _packed(self, trace: BlendTrace) -> dict:
        """The steps as the board takes them, with what is told of the pinned pixel or the chosen cell."""
        R = trace.settings.output_size
        pixel = None if self._pin is None else tuple(int(share * R) for share in reversed(self._pin))
        told = self._provenance.tell(trace, pixel)
        shown = views.pixel_sum(trace, *pixel) if pixel and not told.cell else None
        return pack_steps(marked(self._panels(trace), told), self.instance.value, shown, told)

    def _panels(self, trace: BlendTrace) -> list[views.Panel]:
        """What the board's columns show. A lesson's explorer may show something else of the same trace."""
        panels = views.step_panels(trace, self._limits)
        return [panel for panel in panels if panel.name in FIGURE] if self.board.transposed else panels

    @property
    def text(self) -> str:
        return self.board.text

    def _sentence(self, trace: BlendTrace, box: list[float]) -> str:
        instance = self.instance.value
        return (
            f"{self.picture.name}, instance {instance} ({self.picture.labels[instance]}), source {self._source.name}: "
            f"{words.sizes(trace, box)}; IoU with {self.against} {self.iou:.3f}."
        )

    def _notes(self, trace: BlendTrace, dropped: bool) -> list[str]:
        notes = []
        if self._source.note:
            notes.append(f"Source {self._source.name}: {self._source.note}.")
        for letter, slider in (("K", self.K), ("M", self.M), ("R", self.R)):
            if self._wanted[letter] != slider.value:
                notes.append(
                    f"{letter} moved from {self._wanted[letter]} to {slider.value}: "
                    f"the source {self._source.name} serves {letter} {slider.min} to {slider.max}."
                )
        if dropped:
            notes.append("The normaliser product is for K=1 alone: back to softmax.")
        return notes + words.warnings(trace)

    def __repr__(self) -> str:
        at = f", instance={self.instance.value}, K={self.K.value}, M={self.M.value}, R={self.R.value}"
        return f"BlenderExplorer({self.picture.name!r}, source={self.source.value!r}{at if len(self.picture) else ''})"
