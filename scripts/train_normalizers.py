"""Make the curves that lesson 04 shows: short trainings with softmax, sigmoid, tanh and no normaliser.

    python scripts/train_normalizers.py             trains what is missing, writes it, prints a table
    python scripts/train_normalizers.py --measure   prints the table of what is shipped

A run takes some ten seconds on a quiet core. Each finished run is written at once, so that after a stop the next call
goes on with the next one.
"""

import argparse
import json
import time

import numpy as np
import torch

from blendlab.blendmask.short_runs import BATCH, NORMALIZERS, RATE, SHIPPED, STEPS, K, M, R, curve


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--measure", action="store_true", help="train nothing")
    parser.add_argument("--seeds", type=int, default=3)
    asked = parser.parse_args()
    about = {"steps": STEPS, "batch": BATCH, "rate": RATE, "K": K, "M": M, "R": R, "torch": torch.__version__}
    data = json.loads(SHIPPED.read_text()) if SHIPPED.exists() else {"about": about, "curves": {}}
    if not asked.measure:
        if data["about"] != about:
            raise SystemExit(f"{SHIPPED} was made with other settings or another torch: move it away to start anew")
        for seed in range(asked.seeds):
            for normalizer in NORMALIZERS:
                runs = data["curves"].setdefault(normalizer, {})
                if str(seed) not in runs:
                    began = time.process_time()
                    runs[str(seed)] = curve(normalizer, seed)
                    write(data)
                    took = time.process_time() - began
                    print(f"{normalizer} seed {seed}: IoU {runs[str(seed)]['iou'][-1]:.3f}, {took:.0f} s", flush=True)
    table(data["curves"])


def write(data: dict) -> None:
    """The file appears whole or not at all, a curve's numbers on one line."""
    curves = ",\n".join(
        f'  "{name}": {{\n' + ",\n".join(f'   "{seed}": {json.dumps(run)}' for seed, run in runs.items()) + "\n  }"
        for name, runs in data["curves"].items()
        if runs
    )
    part = SHIPPED.with_suffix(".part")
    part.write_text(f'{{\n "about": {json.dumps(data["about"])},\n "curves": {{\n{curves}\n }}\n}}\n')
    part.replace(SHIPPED)


def table(curves: dict) -> None:
    for name, runs in curves.items():
        last = [100 * run["iou"][-1] for run in runs.values()]
        print(f"{name:8s} IoU {np.mean(last):.1f}, seeds {', '.join(f'{value:.1f}' for value in last)}")


if __name__ == "__main__":
    main()
