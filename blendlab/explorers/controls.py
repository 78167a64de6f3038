"""The controls of the blender's explorer: which there are, how they lie, and the Blender that they stand for.

One letter legend: K bases, M attention side, R output side.
"""

import ipywidgets as widgets
from ipywidgets import Layout

from ..blender import Blender
from .base import Explorer, Slider
from .device import device_menu, is_choice


class BlenderControls(Explorer):
    """Sliders and menus as attributes. A subclass has the picture, _sources, _device, the K, M and R that are _wanted
    and _first, the (source, instance, ...) to start with, before it calls `_make_controls`."""

    def _make_controls(self) -> None:
        wide, narrow = Layout(width="auto", flex="1 1 220px"), Layout(width="232px")
        name, instance, *_ = self._first

        def slider(letter: str, tip: str):
            value = self._wanted[letter]
            return Slider(value, 1, max(value, 112), description=letter, tooltip=tip, layout=wide)

        def choice(description: str, options, **start):
            style = {"description_width": "100px"}
            return widgets.Dropdown(options=options, description=description, style=style, layout=narrow, **start)

        self.K, self.M, self.R = slider("K", "bases"), slider("M", "attention side"), slider("R", "output side")
        self.source = choice("source", list(self._sources), value=name)
        labels = [(f"{i} {label}", i) for i, label in enumerate(self.picture.labels)]
        self.instance = choice("instance", labels, value=instance if labels else None)
        self.normalizer = choice("normalizer", normalizers(self.K.value))
        self.order = choice("order", ["interpolate-first", "normalize-first"])
        self.interpolation = choice("interpolation", ["bilinear", "nearest"])
        self.pooling = choice("pooling", [("RoIAlign", "align"), ("RoIPool", "pool")])
        self.sampling_ratio = choice("sampling ratio", [("1", 1), ("2", 2), ("4", 4), ("adaptive", 0)])
        self.aligned = widgets.Checkbox(True, description="aligned (half a pixel)", indent=False, layout=narrow)
        self.device = device_menu(self._device, style={"description_width": "100px"}, layout=narrow)
        self.reset = widgets.Button(
            description="reset",
            tooltip="everything as it was at the start",
            layout=Layout(width="110px", margin="2px 2px 2px 60px"),
        )
        row = Layout(flex_flow="row wrap", width="100%", max_width="1500px")
        options = [self.normalizer, self.order, self.interpolation, self.pooling, self.sampling_ratio, self.aligned]
        options += [self.device] if is_choice(self.device) else []
        sliders = widgets.HBox([self.K, self.M, self.R], layout=row)
        menus = widgets.HBox([self.source, self.instance, *options, self.reset], layout=row)
        self._controls = [*sliders.children, *menus.children]
        self.children = [self.instance, self.board] if self.board.transposed else [sliders, menus, self.board]

    def _blender(self, R: int, spatial_scale: float) -> Blender:
        """What the menus say, at this R."""
        return Blender(
            R,
            spatial_scale,
            sampling_ratio=self.sampling_ratio.value,
            aligned=self.aligned.value,
            pooling=self.pooling.value,
            interpolation=self.interpolation.value,
            normalizer=self.normalizer.value,
            order=self.order.value,
        )

    def _first_options(self) -> None:
        """Every menu of the blender's as it was at the start."""
        for control in (self.order, self.interpolation, self.pooling, self.sampling_ratio):
            control.index = 0
        self.normalizer.value, self.aligned.value = "softmax", True

    def _fit_normalizer(self, K1_normalizer: str, new_source: bool) -> bool:
        """Offer "product" at K=1 alone, and choose it where the source means it; True if it had to be given up."""
        options, value = normalizers(self.K.value), self.normalizer.value
        if list(self.normalizer.options) == options and not new_source:
            return False
        wanted = value if value in options else "softmax"
        if self.K.value == 1 and value == "softmax":
            wanted = K1_normalizer
        with self._hold():
            self.normalizer.options = options
            self.normalizer.value = wanted
        return value not in options


def normalizers(K: int) -> list[str]:
    """What the menu offers: the product is a form of K=1 alone."""
    return ["softmax", "sigmoid", "tanh", "none"] + ["product"] * (K == 1)
