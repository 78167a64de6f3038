"""Right answers, written otherwise than the package: slow loops, grid_sample, einsum, F.interpolate, and the like.

Each table maps an exercise's name to functions that its check must pass.
"""

import math

import torch
import torch.nn.functional as F


def bilinear_loop(features, y, x):
    """The four cells one after the other, each with its weight."""
    K, H, W = features.shape
    if y < -1 or y > H or x < -1 or x > W:
        return torch.zeros(K)
    y, x = max(0.0, min(y, H - 1.0)), max(0.0, min(x, W - 1.0))
    out = torch.zeros(K)
    for i in range(math.floor(y), math.floor(y) + 2):
        for j in range(math.floor(x), math.floor(x) + 2):
            weight = (1 - abs(y - i)) * (1 - abs(x - j))
            if weight:
                out = out + weight * features[:, i, j]
    return out


def bilinear_hats(features, y, x):
    """Hat functions over all rows and columns."""
    _, H, W = features.shape
    inside = -1 <= y <= H and -1 <= x <= W
    rows = (1 - (torch.arange(H) - min(max(y, 0.0), H - 1.0)).abs()).clamp(min=0)
    columns = (1 - (torch.arange(W) - min(max(x, 0.0), W - 1.0)).abs()).clamp(min=0)
    return torch.einsum("khw,h,w->k", features, rows, columns) * inside


def bilinear_grid(features, y, x):
    _, H, W = features.shape
    if not (-1 <= y <= H and -1 <= x <= W):
        return features.new_zeros(len(features))
    grid = torch.tensor([[[[(2 * x + 1) / W - 1, (2 * y + 1) / H - 1]]]])
    return F.grid_sample(features[None], grid, padding_mode="border", align_corners=False)[0, :, 0, 0]


def one_box_loop(features, box, output_size, spatial_scale=0.25):
    x1, y1, x2, y2 = [c * spatial_scale - 0.5 for c in box.tolist()]
    out = torch.zeros(features.shape[0], output_size, output_size)
    for i in range(output_size):
        for j in range(output_size):
            y = y1 + (i + 0.5) * (y2 - y1) / output_size
            x = x1 + (j + 0.5) * (x2 - x1) / output_size
            out[:, i, j] = bilinear_loop(features, y, x)
    return out


def roi_align_loop(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    R = output_size
    out = torch.zeros(len(boxes), features.shape[1], R, R)
    for n, (image, x1, y1, x2, y2) in enumerate(boxes.tolist()):
        x1, y1, x2, y2 = (c * spatial_scale - (0.5 if aligned else 0) for c in (x1, y1, x2, y2))
        w, h = x2 - x1, y2 - y1
        if not aligned:
            w, h = max(w, 1), max(h, 1)
        nx = sampling_ratio if sampling_ratio > 0 else math.ceil(w / R)
        ny = sampling_ratio if sampling_ratio > 0 else math.ceil(h / R)
        for i in range(R):
            for j in range(R):
                for a in range(ny):
                    for b in range(nx):
                        y = y1 + (i + (a + 0.5) / ny) * h / R
                        x = x1 + (j + (b + 0.5) / nx) * w / R
                        out[n, :, i, j] += bilinear_loop(features[int(image)], y, x) / (nx * ny)
    return out


def roi_align_grid(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    """grid_sample held at the border, and zeros put where a sample lies more than a cell outside."""
    (H, W), R, crops = features.shape[2:], output_size, []
    for box in boxes:
        start, end = (box[1:] * spatial_scale - 0.5 * aligned).view(2, 2)
        size = end - start if aligned else (end - start).clamp(min=1)
        n = [sampling_ratio if sampling_ratio > 0 else math.ceil(s / R) for s in size.tolist()]
        x = start[0] + (torch.arange(R * n[0]) + 0.5) * size[0] / (R * n[0])
        y = start[1] + (torch.arange(R * n[1]) + 0.5) * size[1] / (R * n[1])
        grid = torch.stack(torch.meshgrid((2 * x + 1) / W - 1, (2 * y + 1) / H - 1, indexing="xy"), -1)
        crop = F.grid_sample(features[int(box[0])][None], grid[None], padding_mode="border", align_corners=False)[0]
        crop = crop * ((y >= -1) & (y <= H))[:, None] * ((x >= -1) & (x <= W))
        crops.append(crop.unflatten(2, (R, -1)).mean(3).unflatten(1, (R, -1)).mean(2))
    return torch.stack(crops) if crops else features.new_zeros(0, features.shape[1], R, R)


def roi_align_defaults(features, boxes, output_size):
    """Without the options."""
    return roi_align_grid(features, boxes, output_size)


def torchvision_roi_align(features, boxes, output_size, spatial_scale=0.25, sampling_ratio=1, aligned=True):
    from torchvision.ops import roi_align

    return roi_align(features, boxes, output_size, spatial_scale, sampling_ratio, aligned)


def interpolate_torch(attention, output_size, mode="bilinear", align_corners=False):
    size = (output_size, output_size)
    return F.interpolate(attention, size, mode=mode, align_corners=align_corners if mode == "bilinear" else None)


def interpolate_loop(attention, output_size, mode="bilinear", align_corners=False):
    N, K, M, _ = attention.shape
    R = output_size
    out = torch.zeros(N, K, R, R)

    def position(i):
        if align_corners:
            return i * (M - 1) / (R - 1) if R > 1 else 0.0
        return min(max((i + 0.5) * M / R - 0.5, 0), M - 1)

    for i in range(R):
        for j in range(R):
            if mode == "nearest":
                out[:, :, i, j] = attention[:, :, i * M // R, j * M // R]
                continue
            y, x = position(i), position(j)
            for row in range(M):
                for column in range(M):
                    weight = max(0, 1 - abs(y - row)) * max(0, 1 - abs(x - column))
                    out[:, :, i, j] += weight * attention[:, :, row, column]
    return out


def softmax_by_hand(attention):
    powers = (attention - attention.amax(dim=1, keepdim=True)).exp()
    return powers / powers.sum(dim=1, keepdim=True)


def softmax_loop(attention):
    out = torch.zeros_like(attention)
    for n in range(attention.shape[0]):
        for i in range(attention.shape[2]):
            for j in range(attention.shape[3]):
                out[n, :, i, j] = torch.softmax(attention[n, :, i, j], 0)
    return out


def softmax_logsumexp(attention):
    return (attention - attention.logsumexp(1, keepdim=True)).exp()


def softmax_transformed(attention):
    return attention.permute(0, 2, 3, 1).softmax(-1).permute(0, 3, 1, 2)


def blend_loop(regions, scores):
    N, K, R, _ = regions.shape
    out = torch.zeros(N, R, R)
    for n in range(N):
        for k in range(K):
            out[n] += regions[n, k] * scores[n, k]
    return out


def blend_pixels(regions, scores):
    N, K, R, _ = regions.shape
    out = torch.zeros(N, R, R)
    for n in range(N):
        for i in range(R):
            for j in range(R):
                out[n, i, j] = torch.dot(regions[n, :, i, j], scores[n, :, i, j])
    return out


def blend_einsum(regions, scores):
    return torch.einsum("nkij,nkij->nij", regions, scores)


def blender_steps(bases, attention, boxes, output_size):
    return blend_einsum(
        roi_align_grid(bases, boxes, output_size), softmax_by_hand(interpolate_torch(attention, output_size))
    )


def blender_loop(bases, attention, boxes, output_size):
    masks = torch.zeros(len(boxes), output_size, output_size)
    for n, box in enumerate(boxes):
        region = one_box_loop(bases[int(box[0])], box[1:], output_size)
        weights = F.interpolate(attention[n : n + 1], size=output_size, mode="bilinear")[0].softmax(0)
        masks[n] = (region * weights).sum(0)
    return masks


def paste_loop(probabilities, boxes, image_size):
    (N, R, _), (H, W) = probabilities.shape, image_size
    out = torch.zeros(N, H, W)
    for n, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
        padded = F.pad(probabilities[n], (1, 1, 1, 1))  # the zeros that values fade to
        for i in range(H):
            for j in range(W):
                if x1 <= j + 0.5 <= x2 and y1 <= i + 0.5 <= y2 and x2 > x1 and y2 > y1:
                    y, x = (i + 0.5 - y1) / (y2 - y1) * R + 0.5, (j + 0.5 - x1) / (x2 - x1) * R + 0.5
                    top, left = min(int(y), R), min(int(x), R)
                    down, across = y - top, x - left
                    upper = padded[top, left] * (1 - across) + padded[top, left + 1] * across
                    lower = padded[top + 1, left] * (1 - across) + padded[top + 1, left + 1] * across
                    out[n, i, j] = upper * (1 - down) + lower * down
    return out


def paste_hats(probabilities, boxes, image_size):
    """A bin's influence is a hat around its centre; outside the box nothing."""
    R, (H, W) = probabilities.shape[-1], image_size

    def hats(length, low, high):  # (N,length,R)
        centres, side = torch.arange(length) + 0.5, (high - low)[:, None]
        at = (centres - low[:, None]) / side.clamp(min=1e-9) * R - 0.5
        inside = (centres >= low[:, None]) & (centres <= high[:, None]) & (side > 0)
        return (1 - (at[..., None] - torch.arange(R)).abs()).clamp(min=0) * inside[..., None]

    x1, y1, x2, y2 = boxes.unbind(1)
    return hats(H, y1, y2) @ probabilities @ hats(W, x1, x2).transpose(1, 2)


def gather_slices(outputs, level, y, x):
    K, M = outputs.K, outputs.M
    numbers = outputs.maps[level][:, y, x]
    return torch.stack([numbers[k * M * M : (k + 1) * M * M].reshape(M, M) for k in range(K)])


def gather_loop(outputs, level, y, x):
    K, M = outputs.K, outputs.M
    out = torch.empty(K, M, M)
    for k in range(K):
        for i in range(M):
            for j in range(M):
                out[k, i, j] = outputs.maps[level][(k * M + i) * M + j, y, x]
    return out


def decode_list(distances, y, x, stride):
    left, top, right, bottom = [max(0.0, d) * stride for d in distances.tolist()]
    cx, cy = x * stride + stride // 2, y * stride + stride // 2
    return torch.tensor([cx - left, cy - top, cx + right, cy + bottom])


def decode_signs(distances, y, x, stride):
    centre = torch.tensor([x, y, x, y]) * stride + stride / 2
    return centre + distances.clamp(min=0) * stride * torch.tensor([-1, -1, 1, 1])


def loss_softplus(logits, targets, centerness):
    each = (F.softplus(logits) - logits * targets).mean(dim=(1, 2))
    return torch.dot(each, centerness) / max(float(centerness.sum()), 1e-6)


def loss_loop(logits, targets, centerness):
    total = logits.sum() * 0
    for x, t, weight in zip(logits, targets, centerness, strict=True):
        total = total + weight * F.binary_cross_entropy_with_logits(x, t)
    return total / centerness.sum() if len(logits) else total


RIGHT = {
    "bilinear_sample": (bilinear_loop, bilinear_hats, bilinear_grid),
    "roi_align_one_box": (
        one_box_loop,
        lambda f, box, R: one_box_loop(f, box, R),
        lambda f, box, R, scale=0.25: roi_align_grid(f[None], F.pad(box, (1, 0))[None], R, scale)[0],
    ),
    "roi_align": (roi_align_loop, roi_align_grid, roi_align_defaults, torchvision_roi_align),
    "interpolate": (interpolate_torch, interpolate_loop, lambda a, R: F.interpolate(a, size=(R, R), mode="bilinear")),
    "softmax": (
        softmax_by_hand,
        softmax_loop,
        softmax_logsumexp,
        softmax_transformed,
        torch.nn.Softmax(dim=1),
        lambda a: torch.softmax(a, dim=-3),
    ),
    "blend": (blend_loop, blend_pixels, blend_einsum, lambda r, s: sum(r[:, k] * s[:, k] for k in range(r.shape[1]))),
    "blender": (blender_steps, blender_loop),
    "paste": (paste_loop, paste_hats),
    "gather_attention": (gather_slices, gather_loop),
    "decode_box": (decode_list, decode_signs),
    "mask_loss": (loss_softplus, loss_loop),
}
