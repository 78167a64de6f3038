"""The bank, part three: known wrong ways to write the blend, each with what to tell who wrote it.

One letter legend: N boxes, K bases, R output side.
"""

from .exercise import Mistake

# every function: (regions, scores)

SUM = "It looks as if the sum runs over {} instead of over the K bases (dim=1): look at the axis of sum."
BLEND = (
    Mistake("sum over boxes", lambda r, s: (r * s).sum(0), SUM.format("the N boxes (dim=0)")),
    Mistake("sum over rows", lambda r, s: (r * s).sum(2), SUM.format("the rows (dim=2)")),
    Mistake("sum over columns", lambda r, s: (r * s).sum(3), SUM.format("the columns (dim=3)")),
    Mistake(
        "axis kept",
        lambda r, s: (r * s).sum(1, keepdim=True),
        "The sum keeps an axis of length 1 for K: sum without keepdim, so that logits are (N,R,R).",
    ),
    Mistake("not summed", lambda r, s: r * s, "It looks as if the products are not summed over the K bases."),
    Mistake(
        "mean over K",
        lambda r, s: (r * s).mean(1),
        "It looks like a mean over K: the weights sum to 1 already, so take the sum.",
    ),
    Mistake(
        "largest product",
        lambda r, s: (r * s).amax(1),
        "It looks as if the largest product wins: the blender sums all K.",
    ),
    Mistake(
        "last basis left out",
        lambda r, s: (r * s)[:, :-1].sum(1),
        "It looks as if the last basis is left out: the sum runs over all K.",
    ),
    Mistake(
        "first basis left out",
        lambda r, s: (r * s)[:, 1:].sum(1),
        "It looks as if the first basis is left out: k starts at 0.",
    ),
    Mistake(
        "last basis alone",
        lambda r, s: (r * s)[:, -1],
        "It looks as if the last basis is all that is left: a loop over k must add to the sum (+=), not replace it.",
    ),
    Mistake(
        "first basis alone",
        lambda r, s: (r * s)[:, 0],
        "It looks as if the first basis is all that counts: is the return inside the loop over k?",
    ),
    Mistake(
        "basis of the largest weight",
        lambda r, s: r.gather(1, s.argmax(1, keepdim=True))[:, 0],
        "It looks as if each pixel takes the basis of the largest weight (argmax): weigh all K, and add them up.",
    ),
    Mistake(
        "matrix product",
        lambda r, s: (r @ s).sum(1),
        "It looks like a matrix product (@) of each basis and its weights: multiply element by element (*).",
    ),
    Mistake(
        "bases not weighted",
        lambda r, s: r.sum(1),
        "It looks as if the bases are summed without their weights: multiply by the scores first.",
    ),
    Mistake(
        "plain mean of the bases",
        lambda r, s: r.mean(1),
        "It looks as if the bases are simply averaged: weigh them by the scores.",
    ),
    Mistake(
        "weights added", lambda r, s: (r + s).sum(1), "It looks as if scores are added to the bases: multiply them."
    ),
    Mistake(
        "sigmoid inside the blend",
        lambda r, s: (r.sigmoid() * s).sum(1),
        "It looks as if the bases go through a sigmoid inside the blend: they keep their sign; it comes at the end.",
    ),
    Mistake(
        "sigmoid of products",
        lambda r, s: (r * s).sigmoid().sum(1),
        "It looks as if each product goes through a sigmoid: sum the products first; sigmoid comes at the end.",
    ),
    Mistake(
        "ReLU on the bases",
        lambda r, s: (r.relu() * s).sum(1),
        "It looks as if the bases lose their negative half (ReLU), as in YOLACT: BlendMask's bases carry both signs.",
    ),
    Mistake(
        "sigmoid returned",
        lambda r, s: (r * s).sum(1).sigmoid(),
        "It looks as if probabilities are returned: logits are asked for, before the sigmoid.",
    ),
    Mistake(
        "cut at 0",
        lambda r, s: ((r * s).sum(1) >= 0).to(r),
        "It looks as if the mask is cut to 0 and 1 already: logits are asked for.",
    ),
    Mistake(
        "softmax once more",
        lambda r, s: (r * s.softmax(1)).sum(1),
        "It looks as if softmax is applied to the scores once more: they are weights already.",
    ),
    Mistake(
        "weights in reverse order",
        lambda r, s: (r * s.flip(1)).sum(1),
        "It looks as if weights and bases meet in opposite order of K: weight k belongs to basis k.",
    ),
    Mistake(
        "weights transposed",
        lambda r, s: (r * s.transpose(2, 3)).sum(1),
        "It looks as if the scores' rows and columns are swapped against those of the bases.",
    ),
)
