"""Measure everything and write docs/bench.md.    python -m tests.bench [blending] [starting] [sliders] [explorers]"""

import sys
from pathlib import Path

from . import blending, explorers, sliders, starting
from .machine import machine

PARTS = {"blending": blending, "starting": starting, "sliders": sliders, "explorers": explorers}
REPORT = Path(__file__).parents[2] / "docs" / "bench.md"


def main(wanted: list[str]) -> None:
    if unknown := [name for name in wanted if name not in PARTS]:
        sys.exit(f"parts are {', '.join(PARTS)}; got {', '.join(unknown)}")
    sections = [
        "# Speed and memory\n\nMade by `make bench`. Each table is one run; its ratios are what carries over.\n"
    ]
    sections.append(f"Machine: {machine()}.\n")
    for name in wanted or PARTS:
        print(f"{name} ...", flush=True)
        section = PARTS[name].measure()
        print(section, flush=True)
        sections.append(section)
    if not wanted:
        REPORT.parent.mkdir(exist_ok=True)
        REPORT.write_text("\n".join(sections))
        print(f"written: {REPORT}")


if __name__ == "__main__":
    main(sys.argv[1:])
