"""Speed and memory of blendlab on this machine, as ratios in one run. `make bench` writes docs/bench.md."""
