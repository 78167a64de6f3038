"""A model dedicated to one K and M, cut out of a nested one: it begins where the nested reading stands."""

from __future__ import annotations

import dataclasses

from torch.nn.functional import adaptive_avg_pool2d

from .checkpoint import assemble
from .model import BlendMask
from .nested import sizes


def narrow(model: BlendMask, K: int, M: int, R: int) -> BlendMask:
    """What nested `model` says when it is read at K and M (`nested.read`), as a model that knows no more than that.

    Both readings are linear in the last layers' outputs, so they can be made in the layers' weights: the filters of
    the first K bases are kept, and of the attention layer's M_max x M_max filters for each of them the averages over
    M x M parts. The copy has K bases, attention M x M, output R x R by default, and is not nested. In eval mode.
    ValueError for a model that is not nested, and for K, M or R that it cannot serve.
    """
    if not model.config.nested:
        raise ValueError(f"the model is dedicated to K={model.config.bases}; expected a nested one")
    K, M, R = sizes(model.config, K, M, R)
    config = dataclasses.replace(model.config, bases=K, attention_side=M, output_side=R, nested=False)
    tensors = model.state_dict()
    for name in ("basis_module.out.weight", "basis_module.out.bias"):
        tensors[name] = tensors[name][:K]
    for name in ("attention.weight", "attention.bias"):
        filters = tensors[name].reshape(*model.attention.grid, -1)[:K]  # (K,M_max,M_max,C*9), or 1 in place of C*9
        pooled = adaptive_avg_pool2d(filters.movedim(-1, 1), M).movedim(1, -1)  # (K,M,M,C*9)
        tensors[name] = pooled.reshape(-1, *tensors[name].shape[1:])
    tensors = {name: tensor.clone() for name, tensor in tensors.items()}  # no memory shared with the nested model
    return assemble(config, tensors, f"the nested model cut to K={K}, M={M}")
