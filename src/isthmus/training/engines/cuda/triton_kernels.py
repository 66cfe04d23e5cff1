"""What a GPU does in one go, written in Triton; imported where it is used, on a GPU.

Names in capitals are known when a kernel is compiled.
"""

import triton
import triton.language as tl

AFTER, SLOPE = tl.constexpr(1), tl.constexpr(2)
"""Where a slot holds what was bent, and the slope, behind what was not bent."""


@triton.jit
def moved(at, g, there, lr, step, decay, fresh1, fresh2, log1, log2, eps, APART: tl.constexpr):
    """Adam's or AdamW's step number `step` of weights whose slopes are g.

    `fresh` is 1 - beta, `log` the logarithm of beta: each is exact where the other is not.
    """
    w = tl.load(at[0], mask=there)
    m = tl.load(at[1], mask=there)
    v = tl.load(at[2], mask=there)
    if APART:
        w = w * (1.0 - lr * decay)
    else:
        g = g + w * decay
    m = m + fresh1 * (g - m)
    v = v + fresh2 * (g * g - v)
    short1 = (1.0 - tl.exp((step * log1).to(tl.float64))).to(tl.float32)
    short2 = (1.0 - tl.exp((step * log2).to(tl.float64))).to(tl.float32)
    w = w - lr / short1 * m / (tl.sqrt(v) / tl.sqrt(short2) + eps)
    tl.store(at[0], w, mask=there)
    tl.store(at[1], m, mask=there)
    tl.store(at[2], v, mask=there)


@triton.jit
def bent(z, act):
    """The activation of number `act`, see `whole.ACTS`."""
    a = z
    if act == 1:
        a = z * tl.sigmoid(z)
    if act == 2:
        a = tl.maximum(z, 0.0)
    if act == 3:
        a = 0.5 * z * (1.0 + tl.erf(z * 0.7071067811865476))
    if act == 4:
        a = 2.0 * tl.sigmoid(2.0 * z) - 1.0
    if act == 5:
        a = tl.sigmoid(z)
    if act == 6:
        a = tl.where(z > 20.0, z, tl.log(1.0 + tl.exp(tl.minimum(z, 20.0))))
    if act == 7:
        a = tl.where(z > 0.0, z, tl.exp(tl.minimum(z, 0.0)) - 1.0)
    return a


@triton.jit
def slope_of(z, act):
    """Its derivative."""
    d = z * 0.0 + 1.0
    s = tl.sigmoid(z)
    if act == 1:
        d = s * (1.0 + z * (1.0 - s))
    if act == 2:
        d = tl.where(z > 0.0, 1.0, 0.0)
    if act == 3:
        density = 0.3989422804014327 * tl.exp(-0.5 * z * z)
        d = 0.5 * (1.0 + tl.erf(z * 0.7071067811865476)) + z * density
    if act == 4:
        t = 2.0 * tl.sigmoid(2.0 * z) - 1.0
        d = 1.0 - t * t
    if act == 5:
        d = s * (1.0 - s)
    if act == 6:
        d = tl.where(z > 20.0, 1.0, s)
    if act == 7:
        d = tl.where(z > 0.0, 1.0, tl.exp(tl.minimum(z, 0.0)))
    return d


@triton.jit
def weights_of(layer, values, WIDE: tl.constexpr):
    """A layer's weights (I, O), read in the order in which they lie in memory."""
    ins, outs = tl.load(layer + 4), tl.load(layer + 5)
    first, i, o = values + tl.load(layer + 2), tl.arange(0, WIDE), tl.arange(0, WIDE)
    if tl.load(layer + 6) == 1:
        place = o[:, None] * tl.load(layer + 7) + i[None, :]
        w = tl.load(first + place, mask=(o[:, None] < outs) & (i[None, :] < ins), other=0.0)
        w = tl.trans(w)
    else:
        place = i[:, None] * tl.load(layer + 6) + o[None, :]
        w = tl.load(first + place, mask=(i[:, None] < ins) & (o[None, :] < outs), other=0.0)
    return w


@triton.jit
def keep(layer, slopes, w, WIDE: tl.constexpr):
    """Write (I, O) slopes where those of a layer's weights belong; the sum of their squares."""
    ins, outs = tl.load(layer + 4), tl.load(layer + 5)
    first, i, o = slopes + tl.load(layer + 2), tl.arange(0, WIDE), tl.arange(0, WIDE)
    if tl.load(layer + 6) == 1:
        place = o[:, None] * tl.load(layer + 7) + i[None, :]
        tl.store(first + place, tl.trans(w), mask=(o[:, None] < outs) & (i[None, :] < ins))
    else:
        place = i[:, None] * tl.load(layer + 6) + o[None, :]
        tl.store(first + place, w, mask=(i[:, None] < ins) & (o[None, :] < outs))
    w = tl.where((i[:, None] < ins) & (o[None, :] < outs), w, 0.0)
    return tl.sum(w * w)


@triton.jit
def forth(layer, values, scratch, SLOT: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """A layer's output from its input; `layer` points to what `slots.Layer` holds."""
    b, i, o = tl.arange(0, ROWS), tl.arange(0, WIDE), tl.arange(0, WIDE)
    source, target = scratch + tl.load(layer) * SLOT, scratch + tl.load(layer + 1) * SLOT
    x = tl.load(source + AFTER * ROWS * WIDE + b[:, None] * WIDE + i[None, :])
    z = tl.dot(x, weights_of(layer, values, WIDE), input_precision="tf32x3")
    z += tl.load(values + tl.load(layer + 3) + o, mask=o < tl.load(layer + 5), other=0.0)[None, :]
    to = target + b[:, None] * WIDE + o[None, :]
    z += tl.load(to, mask=(b[:, None] >= 0) & (tl.load(layer + 8) > 0), other=0.0)
    tl.store(to, z)
    tl.store(to + AFTER * ROWS * WIDE, bent(z, tl.load(layer + 9)))
    tl.debug_barrier()


@triton.jit
def back(
    layer, values, slopes, scratch, SLOT: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr
):
    """The slopes in a layer's weights and input, from those in its output; their squares."""
    b, i, o = tl.arange(0, ROWS), tl.arange(0, WIDE), tl.arange(0, WIDE)
    number, outs = tl.load(layer), tl.load(layer + 5)
    source, target = scratch + number * SLOT, scratch + tl.load(layer + 1) * SLOT
    to = target + b[:, None] * WIDE + o[None, :]
    s = tl.load(to + SLOPE * ROWS * WIDE)
    act = tl.load(layer + 9)
    if act > 0:
        s *= slope_of(tl.load(to), act)
        # For whoever else wrote into the same output, without bending it.
        tl.store(to + SLOPE * ROWS * WIDE, s)
    come = source + b[:, None] * WIDE + i[None, :]
    x = tl.load(come + AFTER * ROWS * WIDE)
    norm = keep(layer, slopes, tl.dot(tl.trans(x), s, input_precision="tf32x3"), WIDE)
    sums = tl.where(o < outs, tl.sum(s, 0), 0.0)
    tl.store(slopes + tl.load(layer + 3) + o, sums, mask=o < outs)
    if number > 0:
        w = weights_of(layer, values, WIDE)
        t = tl.dot(s, tl.trans(w), input_precision="tf32x3")
        reached = (b[:, None] >= 0) & (tl.load(layer + 10) > 0)
        t += tl.load(come + SLOPE * ROWS * WIDE, mask=reached, other=0.0)
        tl.store(come + SLOPE * ROWS * WIDE, t)
    tl.debug_barrier()
    return norm + tl.sum(sums * sums)


@triton.jit
def judged(x, last, weights, ends, there, scale, leak, D, LIMITED: tl.constexpr):
    """The squared error of an output, whose slope is left; `ends` are where it is cut off."""
    raw = tl.load(last)
    passed = raw * 0.0 + 1.0
    if LIMITED:
        low = tl.load(ends, mask=there, other=0.0)
        high = tl.load(ends + D, mask=there, other=0.0)
        kept = tl.minimum(tl.maximum(raw, low), high)
        passed = tl.where(kept == raw, 1.0, leak)
        raw = kept + leak * (raw - kept)
    off = tl.where(there, raw - x, 0.0)
    weighted = off * weights * scale
    return tl.sum(off * weighted), 2.0 * weighted * passed


@triton.jit
def moved_all(
    values,
    slopes,
    mean,
    square,
    settings,
    norm,
    lr,
    count,
    P,
    APART: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Clip, decay and move all weights of a network; `settings` are those of `whole.Wholes`."""
    clip = tl.load(settings) / (tl.sqrt(norm) + 1e-6)
    clip = tl.where(clip >= 1.0, 1.0, clip)
    decay, matrices = tl.load(settings + 1), tl.load(settings + 4)
    fresh1, fresh2 = tl.load(settings + 5), tl.load(settings + 6)
    log1, log2, eps = tl.load(settings + 7), tl.load(settings + 8), tl.load(settings + 9)
    for start in range(0, P, BLOCK):
        k = start + tl.arange(0, BLOCK)
        g = tl.load(slopes + k, mask=k < P) * clip
        pulled = tl.where(k < matrices, decay, 0.0)
        at = (values + k, mean + k, square + k)
        moved(at, g, k < P, lr, count, pulled, fresh1, fresh2, log1, log2, eps, APART)
    tl.debug_barrier()


@triton.jit(do_not_specialize=["K", "B", "LAYERS", "SLOTS"])
def steps_of(
    layers,
    settings,
    rows,
    row_weights,
    values,
    slopes,
    mean,
    square,
    counts,
    scratch,
    ends,
    rates,
    told,
    K,
    B,
    D,
    P,
    LAYERS,
    SLOTS,
    ROWS: tl.constexpr,
    WIDE: tl.constexpr,
    WEIGHS: tl.constexpr,
    LIMITED: tl.constexpr,
    APART: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """K steps of small networks, one in each program; see `whole.Whole`."""
    SLOT: tl.constexpr = 3 * ROWS * WIDE
    fit = tl.program_id(0).to(tl.int64)
    values, slopes = values + fit * P, slopes + fit * P
    mean, square, settings = mean + fit * P, square + fit * P, settings + fit * 10
    scratch += fit * SLOTS * SLOT
    b, d = tl.arange(0, ROWS), tl.arange(0, WIDE)
    there, spot = (b[:, None] < B) & (d[None, :] < D), b[:, None] * WIDE + d[None, :]
    final = layers + (LAYERS - 1) * 11
    last = scratch + tl.load(final + 1) * SLOT + spot
    count, SIZE = tl.load(counts + fit), B * D
    for number in range(fit * K, fit * K + K):
        x = tl.load(rows + number * SIZE + b[:, None] * D + d[None, :], mask=there, other=0.0)
        weights = tl.where(b < B, 1.0, 0.0)[:, None]
        if WEIGHS:
            weights = tl.load(row_weights + number * B + b, mask=b < B, other=0.0)[:, None]
        tl.store(scratch + AFTER * ROWS * WIDE + spot, x)
        tl.debug_barrier()
        for n in range(LAYERS):
            forth(layers + n * 11, values, scratch, SLOT, ROWS, WIDE)
        limits, scale = ends + fit * 2 * D + d[None, :], tl.load(settings + 2) / SIZE
        leak = tl.load(settings + 3)
        error, slope = judged(x, last, weights, limits, there, scale, leak, D, LIMITED)
        tl.store(told + number, error)
        tl.store(last + SLOPE * ROWS * WIDE, slope)
        tl.debug_barrier()
        norm = 0.0
        for n in range(LAYERS):
            norm += back(final - n * 11, values, slopes, scratch, SLOT, ROWS, WIDE)
        count += 1.0
        lr = tl.load(rates + number)
        moved_all(values, slopes, mean, square, settings, norm, lr, count, P, APART, BLOCK)
    tl.store(counts + fit, count)
