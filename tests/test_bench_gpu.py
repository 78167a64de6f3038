"""The GPU bench without a GPU: it says so, and its smoke test runs everything but the device's own figures."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[1]


def bench(*arguments, **more):
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} | more
    command = [sys.executable, "-m", "tests.bench.gpu", *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)


def test_it_says_when_there_is_no_gpu_and_writes_nothing(tmp_path):
    done = bench("--out", str(tmp_path))
    assert done.returncode == 1 and "no CUDA device" in done.stderr and not list(tmp_path.iterdir())


def test_the_smoke_test_runs_the_kernel_in_the_interpreter(tmp_path):
    pytest.importorskip("triton")
    done = bench("--quick", "--out", str(tmp_path), TRITON_INTERPRET="1")
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["quick"] and found["device"].startswith("CPU")
    assert {row["who"] for row in found["rows"]} == {"chain", "steps", "fused"}
    assert {row["direction"] for row in found["rows"]} == {"forward", "forward + backward"}
    assert all(row["device_us"] > 0 and row["kernels"] > 0 for row in found["rows"])
    assert all(error["logits"] < 1e-5 and error["bases"] < 1e-2 for error in found["errors"])
    assert "no figures" in (tmp_path / "gpu.md").read_text()


def test_it_needs_nothing_of_jupyter():
    code = (
        "import sys, tests.bench.gpu; "
        "sys.exit(any(name in sys.modules for name in ('ipywidgets', 'anywidget', 'IPython', 'imgviz', 'matplotlib')))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT).returncode == 0


def quick_run(monkeypatch, folder, **contestants):
    """The smoke test in this process, on a CPU, with these contestants beside the chain."""
    from bench import gpu

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(gpu, "contestants", lambda R, device: {"chain": lambda *g: gpu.chain(*g, R)} | contestants)
    return gpu.main(["--quick", "--out", str(folder)])


def out_of_memory(*given):
    raise torch.cuda.OutOfMemoryError("CUDA out of memory")


def test_what_does_not_fit_costs_its_own_figure_alone(monkeypatch, tmp_path):
    quick_run(monkeypatch, tmp_path, steps=out_of_memory, fused=out_of_memory)
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert [row.get("out_of_memory", False) for row in found["rows"]] == [False, True, True] * 4
    assert all(error["out_of_memory"] for error in found["errors"])
    text = (tmp_path / "gpu.md").read_text()
    assert text.count("| out of memory | out of memory |") == 4 and "(gradients too): out of memory." in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gpu.json", "gpu.md"]


def test_what_fails_is_in_the_report_and_in_the_exit_status(monkeypatch, tmp_path):
    def broken(*given):
        raise RuntimeError("no compiler | here\nand more")

    with pytest.raises(SystemExit, match="4 measurements failed, the first: .*RuntimeError: no compiler"):
        quick_run(monkeypatch, tmp_path, **{"chain, compiled": broken})
    assert "| failed: RuntimeError: no compiler / here |" in (tmp_path / "gpu.md").read_text()
    rows = json.loads((tmp_path / "gpu.json").read_text())["rows"]
    assert sum("device_us" in row for row in rows) == 4


def test_a_run_that_is_stopped_keeps_what_it_has_and_leaves_the_figures_before_it(monkeypatch, tmp_path):
    calls = []

    def stopped(*given):
        calls.append(given)
        if len(calls) > 5:
            raise KeyboardInterrupt
        return given[1].sum((1,))

    (tmp_path / "gpu.json").write_text("{}")
    with pytest.raises(KeyboardInterrupt):
        quick_run(monkeypatch, tmp_path, steps=stopped)
    assert (tmp_path / "gpu.json").read_text() == "{}" and not (tmp_path / "gpu.md").exists()
    partly = json.loads((tmp_path / "gpu.json.part").read_text())
    assert 1 <= len(partly["rows"]) < 8 and partly["rows"][0]["device_us"] > 0


def test_calls_that_take_long_are_made_less_often(monkeypatch):
    from bench import gpu_clock

    now, calls = [0.0], []

    def slow(i):
        calls.append(i)
        now[0] += 0.4

    monkeypatch.setattr(gpu_clock.time, "perf_counter", lambda: now[0])
    device_us, _ = gpu_clock.median_times(slow, [(0,), (1,), (2,), (3,)], torch.device("cpu"), 30)
    assert device_us == pytest.approx(4e5) and calls == [0, 1] + [0, 1, 2, 3, 0]


# --- what is made of a GPU's figures, on figures that are made up


def figures():
    limits = {"copy_bytes_per_s": 4e12, "gathers_per_s": 5e12, "wide_gathers_per_s": 2e12}
    rows = [
        {"who": who, "N": N, "dtype": "float32", "direction": direction, "K": 4, "R": 56, "M": 14, "kernels": 7}
        | {"device_us": us * N / 1000, "host_us": 30.0, "extra_bytes": extra}
        for who, us, extra in (("chain", 200.0, 10**8), ("fused", 20.0, 10**6))
        for N in (1000, 5000)
        for direction in ("forward", "forward + backward")
    ]
    rows[0] |= {"out_of_memory": False}
    top = dict.fromkeys(("device", "python", "torch", "torchvision", "triton", "date"), "some")
    return top | {"quick": False, "map": [200, 333], "limits": limits, "errors": [], "rows": rows}


def test_the_limit_that_binds_is_the_slower_one():
    from bench import gpu_limits

    found = figures()
    gpu_limits.add(found)
    row = next(r for r in found["rows"] if r["who"] == "fused" and r["N"] == 1000 and r["direction"] == "forward")
    bytes_moved = 4 * (4 * 200 * 333 + 1000 * 4 * 196) + 20_000 + 4 * 1000 * 3136
    assert row["bytes"] == bytes_moved
    assert row["limits_us"]["device memory"] == pytest.approx(bytes_moved / 4e6)
    pixels = 1000 * 3136
    assert row["limits_us"]["gathers from cache"] == pytest.approx(pixels * 4 / 2e6 + pixels * 16 / 5e6)
    assert row["limit"] == max(row["limits_us"], key=row["limits_us"].get)


def test_the_report_says_what_was_reached_and_what_ran_out_of_memory():
    from bench import gpu_limits, gpu_report

    found = figures()
    for row in found["rows"]:
        if row["who"] == "chain" and row["N"] == 5000:
            row.update(out_of_memory=True, device_us=None)
    gpu_limits.add(found)
    text = gpu_report.report(found)
    assert "N=1000, forward: 10.0 times the chain's speed (wanted: 8)" in text
    assert "1.0 % of the chain's (wanted: under 5)" in text
    assert "| 5000 | out of memory | 100.0 us |" in text and "N=5000, forward: " in text


def test_the_lesson_draws_the_figures_of_a_device():
    """Lesson 10's last code cell, which finds no figures as long as none have been shipped."""
    plt = pytest.importorskip("matplotlib.pyplot")
    from bench import gpu_limits

    cells = json.loads((ROOT / "notebooks" / "10_gpu.ipynb").read_text())["cells"]
    source = next("".join(cell["source"]) for cell in cells if "".join(cell["source"]).startswith("if figures is None"))
    found = figures()
    gpu_limits.add(found)
    for row in found["rows"]:
        if row["who"] == "chain" and row["N"] == 5000:
            row.update(out_of_memory=True)
            del row["device_us"]
    plt.switch_backend("agg")
    exec(source, {"figures": found, "plt": plt})
    drawn = plt.gcf()
    points = {len(line.get_xdata()) for ax in drawn.axes for line in ax.lines}
    assert len(drawn.axes) == 4 and points == {1, 2}  # of the chain N=1000 alone
    assert [label.get_text() for label in drawn.axes[3].texts] == ["7", "7"]
    plt.close(drawn)


@pytest.mark.gpu
def test_the_smoke_test_on_a_gpu(tmp_path):
    command = [sys.executable, "-m", "tests.bench.gpu", "--quick", "--out", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    found = json.loads((tmp_path / "gpu.json").read_text())
    assert found["device"] == torch.cuda.get_device_name() and len({row["who"] for row in found["rows"]}) == 4
    assert all(row["limits_us"] and row["kernels"] for row in found["rows"])
