"""The KV cache's rounding and layout in plain numpy."""

import numpy as np

LIMITS = {16: 8191, 8: 127}
TYPES = {16: np.int16, 8: np.int8}
FORMATS = ((16, 16), (16, 8), (8, 16), (8, 8))  # bits of the cache, bits of the activations


def padded(head_dim: int) -> int:
    return (head_dim + 15) // 16 * 16


def to_integers(x: np.ndarray, limit: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of float32 -> integers and a scale a row (kernels/kv_store/kv_store.h)."""
    most = np.max(np.abs(x), axis=-1, initial=0).astype(np.float32)  # NaN goes through
    good = np.isfinite(most) & (most >= np.float32(1e-30))
    safe = np.where(good, most, np.float32(1))
    with np.errstate(invalid="ignore"):
        values = np.where(good[..., None], np.rint(x * (np.float32(limit) / safe)[..., None]), 0)
    scales = np.where(good, safe / np.float32(limit), np.where(np.isfinite(most), 0, np.nan))
    return values.astype(np.int32), scales.astype(np.float32)


def heads_first(x: np.ndarray, heads: int) -> np.ndarray:
    """(rows, heads * head_dim) -> (heads, rows, head_dim)."""
    return x.reshape(len(x), heads, -1).transpose(1, 0, 2)


def rounded(x: np.ndarray, heads: int, bits: int) -> np.ndarray:
    """What the cache holds of x (rows, heads * head_dim), as float64 (heads, rows, head_dim)."""
    values, scales = to_integers(heads_first(x, heads), LIMITS[bits])
    return values * scales[..., None].astype(np.float64)


def side(values: np.ndarray, scales: np.ndarray, bits: int, keys_in_lanes: bool) -> np.ndarray:
    """Integers (heads, capacity, padded head_dim), scales (heads, capacity) -> K (keys_in_lanes) or V, bytes (heads, blocks, n)."""
    heads, capacity, wide = values.shape
    blocks, lane = capacity // 16, 32 // bits
    if keys_in_lanes:
        laid = values.reshape(heads, blocks, 16, wide // lane, lane).transpose(0, 1, 3, 2, 4)
    else:
        laid = values.reshape(heads, blocks, 16 // lane, lane, wide).transpose(0, 1, 2, 4, 3)
    data = np.ascontiguousarray(laid.reshape(heads, blocks, -1).astype(TYPES[bits])).view(np.uint8)
    return np.concatenate([np.ascontiguousarray(scales.reshape(heads, blocks, 16).astype(np.float32)).view(np.uint8), data], axis=2)


def from_side(data: np.ndarray, head_dim: int, bits: int, keys_in_lanes: bool) -> tuple[np.ndarray, np.ndarray]:
    """The inverse of `side`."""
    heads, blocks, _ = data.shape
    wide, lane = padded(head_dim), 32 // bits
    scales = np.ascontiguousarray(data[:, :, :64]).view(np.float32).reshape(heads, blocks * 16)
    laid = np.ascontiguousarray(data[:, :, 64:]).view(TYPES[bits])
    if keys_in_lanes:
        values = laid.reshape(heads, blocks, wide // lane, 16, lane).transpose(0, 1, 3, 2, 4)
    else:
        values = laid.reshape(heads, blocks, 16 // lane, wide, lane).transpose(0, 1, 2, 4, 3)
    return values.reshape(heads, blocks * 16, wide), scales
