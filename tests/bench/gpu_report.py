"""The bench's figures in words: docs/gpu.md."""

TARGETS = ((4, 56, 14), 1000, "float32")


def line(row: dict) -> str:
    """One row as it is measured."""
    size = f"K={row['K']} R={row['R']} N={row['N']} {row['dtype']} {row['direction']}"
    if why := missing(row):
        return f"{size}, {row['who']}: {why}"
    return f"{size}, {row['who']}: {shown(row['device_us'])}, host {shown(row['host_us'])}, {row['kernels']} kernels"


def missing(row: dict) -> str | None:
    """Why there is no figure, or None."""
    return "out of memory" if row.get("out_of_memory") else "failed: " + row["failed"] if "failed" in row else None


def report(found: dict) -> str:
    versions = ", ".join(f"{name} {found[name]}" for name in ("python", "torch", "torchvision", "triton"))
    lines = [
        "# The blender on a GPU",
        "",
        "Made by `make bench-gpu`." + (" A smoke test of small sizes: no figures." if found["quick"] else ""),
        "",
        f"{found['device']}; {versions}; {found['date']}. Bases of {found['map'][0]} x {found['map'][1]}.",
        "",
        "Times are medians by the device's events, after warm-up, over inputs that take turns: the device's work alone;"
        " in brackets how many times faster than the chain. The host's time to queue a call stands in gpu.json.",
        "The chain is torchvision's roi_align, interpolate, softmax, product, sum; steps are blendlab's own in torch.",
        "",
    ]
    if limits := found["limits"]:
        lines += [
            f"Measured limits: copying {limits['copy_bytes_per_s'] / 1e12:.2f} TB/s (read plus written);"
            f" gathers from cache {limits['gathers_per_s'] / 1e9:.0f} G/s of one number,"
            f" {limits['wide_gathers_per_s'] / 1e9:.0f} G/s of four.",
            "",
        ]
    for error in found["errors"]:
        parts = missing(error) or ", ".join(f"{name} {error[name]:.1e}" for name in ("logits", "bases", "attention"))
        lines.append(f"Fused against float64, K={error['K']} R={error['R']} {error['dtype']} (gradients too): {parts}.")
    for key in sorted({(r["K"], r["R"], r["M"], r["dtype"], r["direction"]) for r in found["rows"]}, key=str):
        lines += ["", *table(found, key)]
    return "\n".join([*lines, "", *targets(found)]) + "\n"


def table(found: dict, key: tuple) -> list[str]:
    chosen = [r for r in found["rows"] if (r["K"], r["R"], r["M"], r["dtype"], r["direction"]) == key]
    who = list(dict.fromkeys(r["who"] for r in chosen))
    K, R, M, dtype, direction = key
    head = ["N", *who, "fused: limit", "times the limit", "extra memory, of the chain's", "kernels, chain / fused"]
    lines = [f"## K={K}, R={R}, M={M}, {dtype}, {direction}", "", f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for N in sorted({r["N"] for r in chosen}):
        by = {r["who"]: r for r in chosen if r["N"] == N}
        cells = [_time(by[name], by["chain"]) for name in who]
        lines.append(f"| {N} | " + " | ".join([*cells, *_comparison(by)]) + " |")
    return lines


def _comparison(by: dict[str, dict]) -> list[str]:
    fused, chain = by.get("fused"), by["chain"]
    if fused is None or missing(fused) or "limits_us" not in fused:
        return ["-", "-", "-", "-"]
    limit = max(fused["limits_us"].values())
    share = "-" if missing(chain) else f"{100 * fused['extra_bytes'] / max(chain['extra_bytes'], 1):.1f} %"
    counts = f"{chain.get('kernels', '-')} / {fused['kernels']}"
    return [f"{shown(limit)}, {fused['limit']}", f"{fused['device_us'] / limit:.1f}", share, counts]


def _time(row: dict, chain: dict) -> str:
    if why := missing(row):
        return why.replace("|", "/")
    if missing(chain):
        return shown(row["device_us"])
    return f"{shown(row['device_us'])} ({chain['device_us'] / row['device_us']:.1f})"


def targets(found: dict) -> list[str]:
    """The figures that this was built to reach, and what they are here."""
    (K, R, M), N, dtype = TARGETS
    rows = {
        (r["who"], r["direction"], r["N"]): r
        for r in found["rows"]
        if (r["K"], r["R"], r["M"], r["dtype"]) == (K, R, M, dtype) and not missing(r)
    }
    lines = [f"## What it should reach, at K={K}, R={R}, M={M}, {dtype}", ""]
    for direction, wanted in (("forward", 8), ("forward + backward", 4)):
        if {("chain", direction, N), ("fused", direction, N)} <= rows.keys():
            chain, fused = (rows[who, direction, N] for who in ("chain", "fused"))
            speed, memory = chain["device_us"] / fused["device_us"], fused["extra_bytes"] / chain["extra_bytes"]
            lines.append(f"- N={N}, {direction}: {speed:.1f} times the chain's speed (wanted: {wanted});")
            lines.append(f"  memory beyond inputs and output {100 * memory:.1f} % of the chain's (wanted: under 5).")
    if row := rows.get(("fused", "forward", 5000)):
        limit = max(row["limits_us"].values())
        lines.append(f"- N=5000, forward: {row['device_us'] / limit:.1f} times the limit, {row['limit']} (wanted: 2).")
    return lines if len(lines) > 2 else []


def shown(us: float) -> str:
    return f"{us:.1f} us" if us < 1000 else f"{us / 1000:.2f} ms"
