"""The curves of a run as a small drawing: mask loss of every step, IoU where it was measured."""

from collections.abc import Sequence

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 640, 170, 44, 96, 12, 30
LOSS, IOU, INK = "#8a5a00", "#0b5cad", "#444"  # told apart by dash and label too
POINTS = 160  # more than these the eye cannot follow


def curve_svg(losses: Sequence[float], measured: Sequence[tuple[int, float]], at: int, steps: int | None = None) -> str:
    """An SVG drawing, as text.

    losses: of steps 1, 2, ... measured: (step, mean IoU 0..1). at: the step that a line marks. steps: where the axis
    ends, at least; it grows with the run.
    """
    end = max(len(losses), steps or 0, 20)

    def x(step: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * step / end

    def y(share: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - min(max(share, 0.0), 1.0))

    def line(points: Sequence[tuple[float, float]], style: str) -> str:
        return f'<polyline fill="none" {style} points="{" ".join(f"{a:.1f},{b:.1f}" for a, b in points)}"/>'

    def word(a: float, b: float, text: str, colour: str = INK, anchor: str = "middle") -> str:
        return f'<text x="{a:.1f}" y="{b:.1f}" fill="{colour}" text-anchor="{anchor}">{text}</text>'

    parts = [line([(LEFT, TOP), (LEFT, HEIGHT - BOTTOM), (WIDTH - RIGHT, HEIGHT - BOTTOM)], f'stroke="{INK}"')]
    for tick in range(0, end + 1, _round_step(end)):
        parts.append(word(x(tick), HEIGHT - BOTTOM + 14, str(tick)))
    parts.append(word((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 3, "step"))
    for share in (0.0, 0.25, 0.5, 0.75, 1.0):
        parts.append(word(LEFT - 6, y(share) + 4, f"{share:g}", anchor="end"))
        parts.append(line([(LEFT, y(share)), (WIDTH - RIGHT, y(share))], 'stroke="#ddd"'))
    parts.append(line([(x(at), TOP), (x(at), HEIGHT - BOTTOM)], f'stroke="{INK}" stroke-dasharray="2 2"'))
    ends = []
    if losses:
        smooth = _smoothed(losses)
        style = f'stroke="{LOSS}" stroke-width="1.5" stroke-dasharray="5 2"'
        parts.append(line([(x(step), y(loss)) for step, loss in smooth], style))
        ends.append((x(smooth[-1][0]), y(smooth[-1][1]), f"mask loss {losses_end(losses):.2f}", LOSS))
    if measured:
        parts.append(line([(x(step), y(iou)) for step, iou in measured], f'stroke="{IOU}" stroke-width="2"'))
        parts += [f'<circle cx="{x(step):.1f}" cy="{y(iou):.1f}" r="2.5" fill="{IOU}"/>' for step, iou in measured]
        ends.append((x(measured[-1][0]), y(measured[-1][1]), f"mean IoU {measured[-1][1]:.2f}", IOU))
    if len(ends) == 2 and abs(ends[0][1] - ends[1][1]) < 14:  # labels that would lie on each other
        up, down = sorted(range(2), key=lambda i: ends[i][1])
        ends[up] = (ends[up][0], ends[up][1] - 7, *ends[up][2:])
        ends[down] = (ends[down][0], ends[down][1] + 7, *ends[down][2:])
    parts += [word(a + 6, b + 4, text, colour, "start") for a, b, text, colour in ends]
    told = "; ".join(text for _, _, text, _ in ends) or "no step yet"
    return (
        f'<svg role="img" aria-label="after {len(losses)} steps: {told}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'style="width:100%;max-width:{WIDTH}px;background:white;font:11px sans-serif">{"".join(parts)}</svg>'
    )


def losses_end(losses: Sequence[float], over: int = 20) -> float:
    """The mean of the last `over` losses: a single step's depends on its scenes."""
    last = losses[-over:]
    return sum(last) / len(last)


def _smoothed(losses: Sequence[float]) -> list[tuple[int, float]]:
    """At most `POINTS` of (step, mean of the steps up to it that it stands for)."""
    width = -(-len(losses) // POINTS)
    ends = range(width, len(losses) + 1, width)
    return [(end, losses_end(losses[:end], max(width, 5))) for end in ends]


def _round_step(end: int) -> int:
    """A distance of ticks of 1, 2 or 5 times a power of ten, with at most eight of them."""
    return next(s * 10**p for p in range(9) for s in (1, 2, 5) if end / (s * 10**p) <= 8)
