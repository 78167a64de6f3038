"""What an import costs beyond torch's own: each measured in a fresh process."""

import statistics
import subprocess
import sys

TORCH = "import time; b = time.perf_counter(); import torch; t = time.perf_counter()"
REPORT = "print(t - b, time.perf_counter() - t)"
WHAT = {
    "`import blendlab`": "import blendlab",
    "and the explorers": "import blendlab.explorers",
    "and the first explorer, fitted source loaded": "from blendlab.explorers import BlenderExplorer as E; E('voc')",
}


def measure(times: int = 5) -> str:
    lines = ["## Starting\n", f"| after `import torch` | torch, s | added, s (median of {times}) |", "|---|---|---|"]
    for name, code in WHAT.items():
        found = [_seconds(f"{TORCH}; {code}; {REPORT}") for _ in range(times)]
        torch_s, added = (statistics.median(column) for column in zip(*found, strict=True))
        lines.append(f"| {name} | {torch_s:.2f} | {added:.2f} |")
    return "\n".join(lines) + "\n"


def _seconds(code: str) -> tuple[float, float]:
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    first, second = map(float, out.split())
    return first, second
