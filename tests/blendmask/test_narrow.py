"""A dedicated model cut out of a nested one says what the nested one says, read at that K and M."""

import pytest
import torch
from tiny import Drawn, tiny_config

from blendlab.blendmask import BlendMask
from blendlab.blendmask.narrow import narrow

PICTURE = Drawn.pictures[0].image


@pytest.fixture
def nested():
    torch.manual_seed(3)
    model = BlendMask(tiny_config(bases=4, attention_side=6)).eval()
    torch.nn.init.normal_(model.fcos.classes.bias, -1.0, 0.5)  # so that it finds something without training
    torch.nn.init.normal_(model.attention.weight, std=0.3)  # so that the attention matters
    return model


@pytest.mark.parametrize("K,M", [(1, 6), (2, 3), (3, 4), (4, 6), (4, 1)])  # 4 does not divide 6
def test_it_predicts_what_the_nested_reading_predicts(nested, K, M):
    wanted = nested.predict(PICTURE, 0.01, K, M, 14)
    found = narrow(nested, K, M, 14).predict(PICTURE, 0.01, R=14)
    assert len(wanted) > 3
    torch.testing.assert_close(found.boxes, wanted.boxes, rtol=0, atol=0)
    for name in ("regions", "attention", "logits"):  # averages of filters and of outputs round differently
        torch.testing.assert_close(getattr(found.trace, name), getattr(wanted.trace, name), rtol=1e-4, atol=1e-4)


def test_it_is_dedicated_and_shares_no_memory(nested):
    model = narrow(nested, 2, 3, 7)
    config = model.config
    assert (config.bases, config.attention_side, config.output_side, config.nested) == (2, 3, 7, False)
    before = nested.basis_module.out.weight.clone()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(7)
    assert torch.equal(nested.basis_module.out.weight, before)


@pytest.mark.parametrize("K,M,R", [(0, 3, 7), (5, 3, 7), (2, 0, 7), (2, 7, 7), (2, 3, 0), (True, 3, 7), (2.0, 3, 7)])
def test_what_the_nested_model_cannot_serve(nested, K, M, R):
    with pytest.raises(ValueError, match="this model serves whole numbers"):
        narrow(nested, K, M, R)


def test_a_dedicated_model_is_not_cut_again(nested):
    with pytest.raises(ValueError, match="dedicated to K=2"):
        narrow(narrow(nested, 2, 3, 7), 2, 3, 7)
