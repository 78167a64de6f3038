"""onnxruntime on the exported graphs, against ours: the norm of the difference at most 1e-4 of the norm."""

import json

import numpy as np
import onnxruntime
import pytest
import torch
from tiny import tiny_config

from blendlab import Blender
from blendlab.blendmask import BlendMask, Config, export_blender_onnx, export_onnx


def session(path) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def assert_near(ours: torch.Tensor, theirs: np.ndarray) -> None:
    ours = ours.numpy()
    assert ours.shape == theirs.shape
    assert np.linalg.norm(ours - theirs) <= 1e-4 * np.linalg.norm(ours)


@pytest.fixture(scope="module")
def network(tmp_path_factory):
    """A tiny model with the authors' five levels, and its graph: the tracing takes seconds, so once for all."""
    torch.manual_seed(0)
    model = BlendMask(tiny_config(levels=5, sizes_of_interest=(8.0, 16.0, 32.0, 64.0)))
    path = tmp_path_factory.mktemp("network") / "network.onnx"
    export_onnx(model, path)
    assert model.training  # as it was
    return model.eval(), session(path)


@pytest.mark.parametrize("B,H,W", [(1, 64, 96), (1, 32, 32), (1, 256, 96), (2, 96, 160), (3, 32, 64)])
def test_the_network_on_images_of_any_size(network, B, H, W):
    model, exported = network
    images = torch.randn(B, 3, H, W)
    names = [output.name for output in exported.get_outputs()]
    assert names == ["bases", "classes", "centerness", "boxes", "attention"]
    found = dict(zip(names, exported.run(None, {"images": images.numpy()}), strict=True))
    with torch.no_grad():
        output = model(images)
        dense = output.dense
        L = len(dense.points)
        location = torch.arange(L).repeat(B)
        attention = model.attention_at(dense, torch.arange(B).repeat_interleave(L), location)
    assert_near(output.bases, found["bases"])
    assert_near(dense.classes, found["classes"])
    assert_near(dense.centerness, found["centerness"])
    assert_near(dense.boxes(), found["boxes"])
    assert_near(attention.view(B, L, 3, 4, 4), found["attention"])


def test_the_file_says_how_images_are_made(network):
    model, exported = network
    stated = json.loads(exported.get_modelmeta().custom_metadata_map["config"])
    assert Config.from_dict(stated) == model.config


def inputs(B=1, N=5, K=4, M=14, H=30, W=40):
    """Boxes inside the image, across its border, around it, far outside, without area; then as chance has it."""
    side = torch.tensor([W * 4.0, H * 4.0, W * 4.0, H * 4.0])
    boxes = torch.tensor(
        [[0.1, 0.2, 0.6, 0.9], [-0.3, -0.2, 0.4, 0.5], [-1, -1, 2, 2], [3, 3, 4, 4], [0.5, 0.5, 0.5, 0.5]]
    )
    corners = torch.rand(max(N - 5, 0), 4) * 1.6 - 0.3
    more = torch.cat([torch.minimum(corners[:, :2], corners[:, 2:]), torch.maximum(corners[:, :2], corners[:, 2:])], 1)
    boxes = torch.cat([boxes, more])[:N] * side
    index = torch.arange(N)[:, None] % B
    return 3 * torch.randn(B, K, H, W), 2 * torch.randn(N, K, M, M), torch.cat([index.float(), boxes], 1)


def run_blender(exported, bases, attention, boxes):
    given = {"bases": bases.numpy(), "attention": attention.numpy(), "boxes": boxes.numpy()}
    return exported.run(["logits", "probabilities"], given)


@pytest.fixture(scope="module")
def reference(tmp_path_factory):
    path = tmp_path_factory.mktemp("blender") / "blender.onnx"
    export_blender_onnx(path)
    return session(path)


@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"N": 1},
        {"N": 0},
        {"N": 100, "H": 50, "W": 67},
        {"B": 3, "N": 12},
        {"K": 1, "M": 1},
        {"K": 8, "M": 7, "H": 9, "W": 120},
        {"M": 60},
    ],
)
def test_the_reference_blender_on_inputs_of_any_size(reference, sizes):
    bases, attention, boxes = inputs(**sizes)
    trace = Blender()(bases, attention, boxes)
    logits, probabilities = run_blender(reference, bases, attention, boxes)
    assert_near(trace.logits, logits)
    assert_near(trace.probabilities, probabilities)


@pytest.mark.parametrize(
    "blender",
    [
        Blender(28, 0.125),
        Blender(14, sampling_ratio=2),
        Blender(14, sampling_ratio=0),
        Blender(aligned=False),
        Blender(interpolation="nearest"),
        Blender(50, interpolation="nearest"),
        Blender(order="normalize-first"),
        Blender(order="normalize-first", interpolation="nearest", normalizer="tanh"),
        *(Blender(normalizer=name) for name in ("sigmoid", "tanh", "none")),
        Blender(normalizer="product"),
    ],
    ids=repr,
)
def test_a_blender_with_other_settings(tmp_path, blender):
    export_blender_onnx(tmp_path / "blender.onnx", blender)
    bases, attention, boxes = inputs(N=9, K=1 if blender.normalizer == "product" else 3, M=7)
    logits, _ = run_blender(session(tmp_path / "blender.onnx"), bases, attention, boxes)
    assert_near(blender(bases, attention, boxes).logits, logits)


def test_both_together_give_the_masks_of_predict(network, reference):
    """The network's outputs at the locations that were chosen, through the blender: no third part is needed."""
    from blendlab.blendmask.predict import stages

    model, exported = network
    image = np.random.default_rng(0).integers(0, 255, (64, 96, 3), np.uint8)
    kept = stages(model, image, score_threshold=0.0, clip_before_blend=False)
    bases, _, _, boxes, attention = exported.run(None, {"images": kept.pixels.numpy()})
    chosen = kept.funnel.best.location.numpy()
    rois = np.concatenate([np.zeros((len(chosen), 1), np.float32), boxes[0, chosen]], 1)
    given = {"bases": bases, "attention": attention[0, chosen], "boxes": rois}
    probabilities = reference.run(["probabilities"], given)[0]
    assert len(probabilities) > 10
    assert_near(kept.detections.trace.probabilities, probabilities)


@pytest.mark.parametrize(
    "blender", [Blender(pooling="pool"), Blender(normalizer="product", order="normalize-first")], ids=repr
)
def test_a_blender_without_a_graph_is_refused(tmp_path, blender):
    with pytest.raises(ValueError, match="expected pooling='align'"):
        export_blender_onnx(tmp_path / "b.onnx", blender)


@pytest.mark.parametrize("export", [export_blender_onnx, lambda path: export_onnx(BlendMask(tiny_config()), path)])
def test_a_folder_that_does_not_exist_is_named(tmp_path, export):
    with pytest.raises(ValueError, match=r"its folder .*nowhere does not exist"):
        export(tmp_path / "nowhere" / "x.onnx")


def test_what_is_no_blender_is_not_exported(tmp_path):
    with pytest.raises(TypeError, match="blender must be a Blender; got str"):
        export_blender_onnx(tmp_path / "b.onnx", "softmax")
