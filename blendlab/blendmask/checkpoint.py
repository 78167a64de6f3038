"""Files: a training run's whole state, and weights alone to ship. Neither can run code when it is read."""

from __future__ import annotations

import contextlib
import json
import os
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import safetensors.torch
import torch
from safetensors import SafetensorError, safe_open
from torch.overrides import TorchFunctionMode

from .config import Config
from .model import BlendMask


def save_state(state: dict, path: str | Path) -> None:
    """Write a training run's state. The file appears whole or not at all, whenever the process is killed."""
    with _whole(path) as file:
        torch.save(state, file)


@contextlib.contextmanager
def _whole(path: str | Path) -> Iterator[BinaryIO]:
    """A file to write that takes the name `path` only once it is complete and on the disk."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(f".{path.name}.part")
    try:
        with open(part, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:
        part.unlink(missing_ok=True)  # on a full disk above all
        raise


def load_state(path: str | Path) -> dict:
    """Read what `save_state` wrote; ValueError for a file that is missing, cut short, damaged or something else."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"checkpoint {path} does not exist")
    try:
        with zipfile.ZipFile(path) as parts:  # torch does not look at the checksums that it writes
            if damaged := parts.testzip():
                raise ValueError(f"{damaged} is damaged")
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises several types for a damaged file, by where the damage is
        raise ValueError(
            f"checkpoint {path} cannot be read: damaged, cut short, or not a checkpoint ({error})"
        ) from error
    missing = {"config", "settings", "steps", "model", "averaged", "optimiser"} - set(
        state if isinstance(state, dict) else ()
    )
    if missing:
        raise ValueError(f"checkpoint {path} is not of a training run: it lacks {sorted(missing)}")
    return state


def save_weights(model: BlendMask, path: str | Path) -> None:
    """Write the weights alone, in half precision, with the config beside them: a safetensors file to ship."""
    tensors = {
        name: tensor.half().contiguous() if tensor.is_floating_point() else tensor
        for name, tensor in model.state_dict().items()
        if not name.endswith("num_batches_tracked") and not name.startswith("semantic.")
    }
    metadata = {"config": json.dumps(model.config.to_dict()), "crc32": checksum(tensors)}
    with _whole(path) as file:
        file.write(safetensors.torch.save(tensors, metadata=metadata))


def checksum(tensors: dict[str, torch.Tensor]) -> str:
    """CRC-32 of all numbers, tensor by tensor in the order of their names; the format itself has none."""
    value = 0
    for name in sorted(tensors):
        value = zlib.crc32(tensors[name].detach().cpu().reshape(-1).view(torch.uint8).numpy(), value)
    return f"{value:08x}"


def load_weights(path: str | Path) -> BlendMask:
    """The model of a file from `save_weights`, in float32 and eval mode; ValueError where the file is not one."""
    path = Path(path)
    if not path.is_file():
        raise ValueError(f"weights {path} do not exist")
    try:
        with torch.device("cpu"), safe_open(path, framework="pt") as file:  # whatever device the reader has set
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - not a dict
    except SafetensorError as error:
        raise ValueError(f"weights {path} cannot be read: cut short, or not a safetensors file ({error})") from error
    if "config" not in metadata:
        raise ValueError(f"weights {path} carry no config; expected a file from save_weights")
    if metadata.get("crc32") not in (None, checksum(tensors)):  # None: of a version that wrote no checksum
        raise ValueError(f"weights {path} are damaged: their checksum is {checksum(tensors)}, not the one written down")
    return assemble(config_of(metadata["config"], path), tensors, f"weights {path}")


def load_model(path: str | Path) -> BlendMask:
    """The model to look at, from either kind of file: the averaged weights of a run, or shipped weights."""
    if Path(path).suffix == ".safetensors":
        return load_weights(path)
    state = load_state(path)
    return assemble(config_of(state["config"], path), state["averaged"], f"checkpoint {path}")


def config_of(values: object, path: str | Path) -> Config:
    """A Config from what a file holds: JSON text, or a dict; ValueError that names the file."""
    try:
        values = json.loads(values) if isinstance(values, str) else values
        if not isinstance(values, dict):
            raise ValueError(f"it is {type(values).__name__}; expected a dict")
        return Config.from_dict(values)
    except (ValueError, TypeError) as error:
        raise ValueError(f"{path}: its config cannot be used: {error}") from error


class Undrawn(TorchFunctionMode):
    """Normal numbers are not drawn: on "meta" torch would begin by importing its compiler, which takes a second."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        given = kwargs or {}
        if function in (torch.Tensor.normal_, torch.nn.init.normal_):
            return args[0] if args else given["tensor"]
        return function(*args, **given)


def hollow(config: Config) -> BlendMask:
    """The model's names and shapes, on "meta": no initial values that are overwritten, and no memory."""
    with torch.device("meta"), Undrawn():
        return BlendMask(config)


def assemble(config: Config, tensors: dict[str, torch.Tensor], what: str) -> BlendMask:
    """A model in eval mode from its config and tensors; ValueError that names what is missing, extra or misshapen."""
    model = hollow(config)
    if not any(name.startswith("semantic.") for name in tensors):
        model.semantic = None
    wanted = model.state_dict()
    tensors = {name: t.float() if t.is_floating_point() else t for name, t in tensors.items()}
    for name in wanted:
        if name.endswith("num_batches_tracked"):
            tensors.setdefault(name, torch.zeros((), dtype=torch.long, device="cpu"))
    missing, extra = sorted(set(wanted) - set(tensors)), sorted(set(tensors) - set(wanted))
    given = {name: misfit(tensor, wanted[name]) for name, tensor in tensors.items() if name in wanted}
    unfit = [f"{name} {trouble}" for name, trouble in given.items() if trouble]
    if missing or extra or unfit:
        raise ValueError(
            f"{what}: missing {missing or 'nothing'}; not expected {extra or 'nothing'}; not as expected: "
            f"{unfit or 'none'}"
        )
    model.load_state_dict(tensors, assign=True)
    model.restore_statistics()
    return model.eval().requires_grad_(False)


def misfit(given: torch.Tensor, wanted: torch.Tensor) -> str:
    """Why a tensor of a file cannot take the place of `wanted`; empty if it can."""
    if given.shape != wanted.shape:
        return f"is {tuple(given.shape)}, expected {tuple(wanted.shape)}"
    if wanted.is_floating_point() and not given.is_floating_point():
        return f"is {given.dtype}, expected floating"
    return "" if given.isfinite().all() else "is not finite"
