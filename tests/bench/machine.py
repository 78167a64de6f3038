"""What a bench ran on, in words."""

import platform
from datetime import date
from pathlib import Path

import torch
import torchvision


def machine() -> str:
    model = platform.processor() or platform.machine()
    if (cpu := Path("/proc/cpuinfo")).exists():
        model = next(line.split(":")[1].strip() for line in cpu.read_text().splitlines() if "model name" in line)
    versions = f"Python {platform.python_version()}, torch {torch.__version__}, torchvision {torchvision.__version__}"
    return f"{model}, {torch.get_num_threads()} threads, {platform.system()}; {versions}; {date.today()}"
