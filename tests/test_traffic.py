"""The bytes of a blend: against the tensors that the steps really make, and the explorer that draws them."""

import re
from xml.etree import ElementTree

import pytest
import torch

from blendlab import Blender
from blendlab.explorers.traffic import MAP, TrafficExplorer, traffic


def test_the_bytes_are_those_of_the_tensors():
    N, K, M, R = 3, 2, 4, 6
    bases, attention = torch.randn(1, K, *MAP), torch.randn(N, K, M, M)
    boxes = torch.tensor([[0.0, 3, 2, 31, 30]]).repeat(N, 1)
    trace = Blender(R)(bases, attention, boxes)
    steps = traffic(N, K, M, R)
    assert steps["RoIAlign"] == (bases.nbytes + boxes.nbytes, trace.regions.nbytes)
    assert steps["interpolate"] == (attention.nbytes, trace.upsampled.nbytes)
    assert steps["softmax"] == (trace.upsampled.nbytes, trace.scores.nbytes)
    assert steps["product"] == (trace.scores.nbytes + trace.regions.nbytes, trace.products.nbytes)
    assert steps["sum"] == (trace.products.nbytes, trace.logits.nbytes)
    inputs = bases.nbytes + attention.nbytes + boxes.nbytes
    assert traffic(N, K, M, R, fused=True) == {"one kernel": (inputs, trace.logits.nbytes)}
    assert traffic(N, K, M, R, size=2)["softmax"] == (trace.scores.nbytes // 2, trace.scores.nbytes // 2)


@pytest.mark.parametrize("letter", "NKMR")
def test_every_corner_of_the_sliders(letter):
    explorer = TrafficExplorer()
    slider = getattr(explorer, letter)
    for value in (slider.min, slider.max):
        slider.value = value
        sizes = {name: getattr(explorer, name).value for name in "NKMR"}
        assert explorer.total == sum(map(sum, traffic(**sizes).values()))
        assert explorer.fused == sum(map(sum, traffic(**sizes, fused=True).values()))
        widths = [float(width) for width in re.findall(r'width="([\d.]+)" height="20"', explorer.bars.value)]
        assert len(widths) == 12 and max(map(sum, zip(widths[::2], widths[1::2], strict=True))) == pytest.approx(
            520, abs=0.2
        )
        assert explorer.text in explorer.bars.value
    bundle = explorer._repr_mimebundle_()
    assert bundle["text/plain"] == explorer.text and bundle["image/svg+xml"] in explorer.bars.value


def test_the_picture_is_an_svg_of_its_own():
    root = ElementTree.fromstring(TrafficExplorer()._repr_mimebundle_()["image/svg+xml"])
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    words = [element.text for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert {"read", "written", "RoIAlign", "one kernel"} <= set(words)
