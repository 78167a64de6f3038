import pytest
import torch
from tiny import draw, tiny_config

from blendlab import steps
from blendlab.blendmask import BlendMask
from blendlab.blendmask.data import Sample, batch, from_numpy, truth_of
from blendlab.blendmask.losses import crop_masks, losses, mask_loss, match, semantic_loss
from blendlab.blendmask.nested import blend_regions, read
from blendlab.blendmask.predict import blender
from blendlab.blendmask.targets import Truth

RECTANGLES = ((4, 4, 30, 40), (20, 20, 60, 50))


def sample(picture):
    return Sample(from_numpy(picture.image), truth_of(picture, ("square", "disc")))


def step(model, pictures, sizes=((3, 4, 14),), **options):
    images, truths = batch(model, [sample(p) for p in pictures])
    output = model(images)
    return losses(model, output, truths, list(sizes), **options), output, truths


def test_all_losses_are_finite_positive_and_reach_every_parameter(tiny):
    found, _, _ = step(tiny.train(), [draw(*RECTANGLES), draw((10, 10, 50, 50))])
    assert set(found) == {"class", "box", "centerness", "mask"}
    assert all(value.isfinite() and value > 0 for value in found.values())
    sum(found.values()).backward()
    silent = [name for name, p in tiny.named_parameters() if p.grad is None or not p.grad.abs().sum() > 0]
    assert not silent


def test_the_mask_loss_is_the_formula_spelled_out(tiny):
    """BCE of the blend on the true box against the cropped mask, averaged over pixels, weighted by centerness."""
    _, output, truths = step(tiny, [draw(*RECTANGLES)])
    positives = match(output.dense, truths, tiny.config)
    found = mask_loss(tiny, output, truths, positives, [(3, 4, 14)], 1000, None)
    target = crop_masks(truths, 14)
    total = 0.0
    for location, truth, weight in zip(positives.location, positives.truth, positives.centerness, strict=True):
        attention = tiny.attention_at(output.dense, torch.tensor([0]), location[None])
        logits = blender(3, 14).logits(output.bases, attention, truths[0].boxes[truth][None])[0]
        p = logits.sigmoid()
        t = target[truth]
        total = total + weight * -(t * p.log() + (1 - t) * (1 - p).log()).mean()
    torch.testing.assert_close(found, total / positives.centerness.sum(), atol=1e-5, rtol=1e-4)


def test_a_limit_on_positives_keeps_the_loss_unbiased(tiny):
    _, output, truths = step(tiny, [draw(*RECTANGLES)])
    positives = match(output.dense, truths, tiny.config)
    full = mask_loss(tiny, output, truths, positives, [(3, 4, 14)], 1000, None)
    drawn = [
        mask_loss(tiny, output, truths, positives, [(3, 4, 14)], 4, torch.Generator().manual_seed(i)).item()
        for i in range(300)
    ]
    assert len(positives.image) > 8
    assert sum(drawn) / len(drawn) == pytest.approx(full.item(), rel=0.05)


def test_several_settings_give_the_mean_of_their_losses(tiny):
    _, output, truths = step(tiny, [draw(*RECTANGLES)])
    positives = match(output.dense, truths, tiny.config)
    sizes = [(3, 4, 14), (1, 2, 7)]
    one, two = (mask_loss(tiny, output, truths, positives, [s], 1000, None) for s in sizes)
    torch.testing.assert_close(mask_loss(tiny, output, truths, positives, sizes, 1000, None), (one + two) / 2)


def test_a_batch_without_objects_trains_the_classes_alone(tiny):
    found, _, _ = step(tiny.train(), [draw()])
    assert found["class"].item() > 0
    assert [found[name].item() for name in ("box", "centerness", "mask")] == [0, 0, 0]
    sum(found.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in tiny.parameters())


def test_an_object_of_one_pixel_harms_nothing(tiny):
    found, _, _ = step(tiny.train(), [draw((33, 33, 34, 34), (4, 4, 30, 40))])
    assert all(value.isfinite() for value in found.values())


def test_cropped_masks_are_shares_of_area():
    picture = draw((8, 8, 24, 24))
    masks = torch.from_numpy(picture.masks)
    boxes = torch.tensor([[0.0, 8.0, 16.0, 24.0]])  # the left half lies outside the object
    crops = crop_masks([Truth(boxes, torch.zeros(1, dtype=torch.long), masks)], 4)
    expected = torch.tensor([0.0, 0.0, 1.0, 1.0]).expand(4, 4)
    torch.testing.assert_close(crops[0], expected)
    odd = crop_masks([Truth(boxes + torch.tensor([0, 0, 2.0, 0]), torch.zeros(1, dtype=torch.long), masks)], 2)
    assert 0 < float(odd[0, 0, 0]) < 0.2  # bins 9 px wide, sampled five times across: 1/9 lies inside, about


def test_blending_shared_regions_is_what_the_blender_does(tiny):
    """One crop for each true box, indexed by location, against the Blender itself, for one basis and for several."""
    _, output, truths = step(tiny, [draw(*RECTANGLES)])
    attention = torch.randn(4, 3, 4, 4)
    truth = torch.tensor([0, 1, 1, 0])
    for K, M, R in ((3, 4, 14), (2, 3, 9), (1, 4, 7), (1, 1, 14)):
        bases, small = read(output.bases, attention, K, M)
        regions = steps.roi_align(bases, [truths[0].boxes], R)[truth]
        expected = blender(K, R).logits(bases, small, truths[0].boxes[truth])
        torch.testing.assert_close(blend_regions(regions, small, R), expected, atol=1e-5, rtol=1e-5)


def test_the_semantic_head_learns_where_what_is():
    model = BlendMask(tiny_config(seg_head=True))
    found, _, _ = step(model, [draw(*RECTANGLES)])
    assert found["semantic"].item() > 0
    found["semantic"].backward()
    assert model.semantic.out.weight.grad.abs().sum() > 0


@pytest.mark.parametrize("first", ["c2", "c3", "p3"])
def test_the_semantic_target_lies_where_the_objects_are_at_every_stride(first):
    """A head that says the true map, known by hand, has no loss; 1e-6 for the softmax of 20."""
    torch.manual_seed(0)
    model = BlendMask(tiny_config(seg_head=True, basis_inputs=(first,)))
    picture = draw((8, 8, 32, 40), (40, 24, 56, 64), labels=["square", "disc"])
    images, truths = batch(model, [sample(picture)])
    labels = torch.zeros(64, 64, dtype=torch.long)
    labels[8:40, 8:32], labels[24:64, 40:56] = 1, 2
    stride = 4 if first == "c2" else 8
    true = torch.nn.functional.one_hot(labels[::stride, ::stride], 3).permute(2, 0, 1)[None]
    output = model(images)
    model.semantic.forward = lambda x: 20.0 * true
    assert output.maps[first].shape[-1] == 64 // stride
    assert semantic_loss(model, output, truths) < 1e-6
