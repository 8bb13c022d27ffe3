"""The demo HyperVL in torch: SigLIP-style branches, projectors and a Qwen3-style LLM, with the checkpoint's names.

Shapes in comments: B pictures, T tiles, P patches, V visual tokens, S text positions, C a width.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

GROUP = 32


@dataclass(frozen=True)
class VisionConfig:
    """One SigLIP branch."""

    hidden_size: int
    intermediate_size: int
    num_hidden_layers: int
    num_attention_heads: int
    image_size: int = 128
    patch_size: int = 8
    num_channels: int = 3
    hidden_act: str = "gelu_pytorch_tanh"
    layer_norm_eps: float = 1e-6


@dataclass(frozen=True)
class TextConfig:
    """The Qwen3 language model."""

    vocab_size: int = 512
    hidden_size: int = 192
    intermediate_size: int = 512
    num_hidden_layers: int = 4
    num_attention_heads: int = 6
    num_key_value_heads: int = 2
    head_dim: int = 32
    max_position_embeddings: int = 4096
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10000.0
    tie_word_embeddings: bool = True
    hidden_act: str = "silu"


@dataclass(frozen=True)
class ModelConfig:
    """Everything the demo model is made of."""

    text: TextConfig = field(default_factory=TextConfig)
    vision: dict[str, VisionConfig] = field(default_factory=lambda: {
        "base": VisionConfig(128, 512, 4, 4), "large": VisionConfig(192, 768, 5, 6)})
    projector_hidden: dict[str, int] = field(default_factory=lambda: {"base": 256, "large": 256})
    pixel_shuffle: int = 2
    tile_size: int = 128


def fake_quantize(weight: Tensor, bits: int) -> Tensor:
    """Snap a (out, in) weight to the packed grid: symmetric, groups of 32 along `in`, scales exact in float16."""
    groups = weight.float().reshape(weight.shape[0], -1, GROUP)
    top = float(2 ** (bits - 1) - 1)
    scale = (groups.abs().amax(-1, keepdim=True) / top).clamp_min(1e-5).half().float()
    return ((groups / scale).round().clamp(-top - 1, top) * scale).reshape(weight.shape)


class QLinear(nn.Linear):
    """A linear layer that computes with its packed (W4 or W8) weight once `quantized` is set."""

    bits = 8
    quantized = False

    def effective(self) -> Tensor:
        if not self.quantized:
            return self.weight
        return self.weight + (fake_quantize(self.weight.detach(), self.bits) - self.weight.detach())

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.effective(), self.bias)


class Linear4(QLinear):
    """A language model linear: 4-bit, no bias."""

    bits = 4

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)


class RMSNorm(nn.Module):
    def __init__(self, size: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(size))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, self.weight.shape, self.weight.to(x.dtype), self.eps)


def attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> Tensor:
    """Plain attention over (B, heads, S, dim): on a CPU its backward is several times faster than the fused one's."""
    scores = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)
    if mask is not None:
        scores = scores + mask
    return torch.softmax(scores, -1, dtype=scores.dtype) @ v


class VisionAttention(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.heads = c.num_attention_heads
        self.q_proj, self.k_proj, self.v_proj, self.out_proj = (QLinear(c.hidden_size, c.hidden_size) for _ in range(4))

    def forward(self, x: Tensor) -> Tensor:  # (T, P, C)
        t, p, c = x.shape
        q, k, v = (f(x).view(t, p, self.heads, -1).transpose(1, 2) for f in (self.q_proj, self.k_proj, self.v_proj))
        return self.out_proj(attention(q, k, v).transpose(1, 2).reshape(t, p, c))


class VisionMLP(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.fc1, self.fc2 = QLinear(c.hidden_size, c.intermediate_size), QLinear(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x), approximate="tanh"))


class VisionLayer(nn.Module):
    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.layer_norm1 = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.self_attn = VisionAttention(c)
        self.layer_norm2 = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)
        self.mlp = VisionMLP(c)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.self_attn(self.layer_norm1(x))
        return x + self.mlp(self.layer_norm2(x))


class PatchEmbedding(QLinear):
    """The patch convolution as a linear over (3, P, P) pixels; exported as (C, 3, P, P)."""


class VisionTower(nn.Module):
    """One branch: a tile of any size that the patch divides goes in, its patches' features come out."""

    def __init__(self, c: VisionConfig) -> None:
        super().__init__()
        self.config, self.side = c, c.image_size // c.patch_size
        self.embeddings = nn.ModuleDict({
            "patch_embedding": PatchEmbedding(3 * c.patch_size**2, c.hidden_size),
            "position_embedding": nn.Embedding(self.side**2, c.hidden_size)})
        self.encoder = nn.ModuleDict({"layers": nn.ModuleList(VisionLayer(c) for _ in range(c.num_hidden_layers))})
        self.post_layernorm = nn.LayerNorm(c.hidden_size, c.layer_norm_eps)

    def forward(self, tiles: Tensor) -> Tensor:  # (T, 3, h, w) -> (T, h/p, w/p, C)
        p = self.config.patch_size
        t, _, h, w = tiles.shape
        rows, cols = h // p, w // p
        patches = tiles.view(t, 3, rows, p, cols, p).permute(0, 2, 4, 1, 3, 5).reshape(t, rows * cols, 3 * p * p)
        table = self.embeddings["position_embedding"].weight.view(self.side, self.side, -1)
        x = self.embeddings["patch_embedding"](patches) + table[:rows, :cols].reshape(1, rows * cols, -1)
        for layer in self.encoder["layers"]:
            x = layer(x)
        return self.post_layernorm(x).view(t, rows, cols, -1)


class Projector(nn.Module):
    """Pixel shuffle, then Linear, GELU, Linear."""

    def __init__(self, width: int, hidden: int, text: int, shuffle: int) -> None:
        super().__init__()
        self.shuffle = shuffle
        self.linear_1, self.linear_2 = QLinear(width * shuffle**2, hidden), QLinear(hidden, text)

    def forward(self, x: Tensor) -> Tensor:  # (T, rows, cols, C) -> (T, rows/2 * cols/2, text)
        t, rows, cols, c = x.shape
        s = self.shuffle
        x = x.view(t, rows // s, s, cols // s, s, c).permute(0, 1, 3, 2, 4, 5).reshape(t, -1, c * s * s)
        return self.linear_2(F.gelu(self.linear_1(x)))


def rotary(length: int, dim: int, theta: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """cos and sin, (length, dim), half-split."""
    inverse = theta ** (-torch.arange(0, dim, 2, device=device).float() / dim)
    angles = torch.outer(torch.arange(length, device=device).float(), inverse)
    angles = torch.cat([angles, angles], -1)
    return angles.cos(), angles.sin()


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    a, b = x.chunk(2, -1)
    return x * cos + torch.cat([-b, a], -1) * sin


class TextAttention(nn.Module):
    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.heads, self.kv_heads, self.dim = c.num_attention_heads, c.num_key_value_heads, c.head_dim
        self.q_proj = Linear4(c.hidden_size, self.heads * self.dim)
        self.k_proj = Linear4(c.hidden_size, self.kv_heads * self.dim)
        self.v_proj = Linear4(c.hidden_size, self.kv_heads * self.dim)
        self.o_proj = Linear4(self.heads * self.dim, c.hidden_size)
        self.q_norm, self.k_norm = RMSNorm(self.dim, c.rms_norm_eps), RMSNorm(self.dim, c.rms_norm_eps)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:  # (B, S, C)
        b, s, _ = x.shape
        q = self.q_norm(self.q_proj(x).view(b, s, self.heads, self.dim)).transpose(1, 2)
        k = self.k_norm(self.k_proj(x).view(b, s, self.kv_heads, self.dim)).transpose(1, 2)
        v = self.v_proj(x).view(b, s, self.kv_heads, self.dim).transpose(1, 2)
        repeat = self.heads // self.kv_heads
        q, k = rotate(q, cos, sin), rotate(k, cos, sin).repeat_interleave(repeat, 1)
        mask = torch.full((s, s), float("-inf"), dtype=q.dtype).triu(1)
        x = attention(q, k, v.repeat_interleave(repeat, 1), mask)
        return self.o_proj(x.transpose(1, 2).reshape(b, s, -1))


class TextMLP(nn.Module):
    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.gate_proj, self.up_proj = (Linear4(c.hidden_size, c.intermediate_size) for _ in range(2))
        self.down_proj = Linear4(c.intermediate_size, c.hidden_size)

    def forward(self, x: Tensor) -> Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class TextLayer(nn.Module):
    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.self_attn = TextAttention(c)
        self.post_attention_layernorm = RMSNorm(c.hidden_size, c.rms_norm_eps)
        self.mlp = TextMLP(c)

    def forward(self, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin)
        return x + self.mlp(self.post_attention_layernorm(x))


class TextModel(nn.Module):
    """Qwen3 with tied 4-bit embeddings."""

    quantized = False

    def __init__(self, c: TextConfig) -> None:
        super().__init__()
        self.config = c
        self.embed_tokens = nn.Embedding(c.vocab_size, c.hidden_size)
        self.layers = nn.ModuleList(TextLayer(c) for _ in range(c.num_hidden_layers))
        self.norm = RMSNorm(c.hidden_size, c.rms_norm_eps)

    def table(self) -> Tensor:
        weight = self.embed_tokens.weight
        if self.quantized:
            weight = weight + (fake_quantize(weight.detach(), 4) - weight.detach())
        return weight

    def forward(self, embeds: Tensor) -> Tensor:  # (B, S, C) -> (B, S, C), normed
        cos, sin = rotary(embeds.shape[1], self.config.head_dim, self.config.rope_theta, embeds.device)
        cos, sin = cos.to(embeds.dtype), sin.to(embeds.dtype)
        for layer in self.layers:
            embeds = layer(embeds, cos, sin)
        return self.norm(embeds)


class HyperVL(nn.Module):
    """Branches and projectors over one language model."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        self.config = config
        self.vision_tower = nn.ModuleDict({n: VisionTower(c) for n, c in config.vision.items()})
        self.projector = nn.ModuleDict({
            n: Projector(c.hidden_size, config.projector_hidden[n], config.text.hidden_size, config.pixel_shuffle)
            for n, c in config.vision.items()})
        self.language_model = TextModel(config.text)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=module.in_features**-0.5 * 0.7)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.05)

    def set_quantized(self, on: bool) -> None:
        """Compute with packed weights (straight-through gradients) from now on, or with float ones."""
        for module in self.modules():
            if isinstance(module, QLinear | TextModel):
                module.quantized = on

    def encode(self, branch: str, pixels: Tensor) -> tuple[list[list[Tensor]], list[list[Tensor]]]:
        """Pictures (B, 3, H, W) of one padded size -> patch features and visual tokens of every tile, by tile row."""
        size = self.config.tile_size
        features, tokens = [], []
        for y in range(0, pixels.shape[2], size):
            rows = [self.vision_tower[branch](pixels[:, :, y:y + size, x:x + size])
                    for x in range(0, pixels.shape[3], size)]
            features.append(rows)
            tokens.append([self.projector[branch](r) for r in rows])
        return features, tokens
