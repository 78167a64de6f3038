"""A second device on any machine, for the explorers' menu of devices."""

import torch


def elsewhere(monkeypatch) -> str:
    """Its name. "cpu:0" is the CPU under another name, so all that is done for one device is done for another."""
    names = ["cpu", "cuda:0"] if torch.cuda.is_available() else ["cpu", "cpu:0"]
    monkeypatch.setattr("blendlab.explorers.device.devices", lambda: names)
    return names[1]
