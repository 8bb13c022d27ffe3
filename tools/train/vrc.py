"""The resolution compressor (VRC): a small MobileNetV2 that looks at a thumbnail and names a scale.

Float with batch norm first; then the norms are folded and the net is tuned with the engine's integer grid simulated
(8-bit weights by output channel, u8 after ReLU6, int8 with a calibrated scale after projections).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

STEP6 = 6 / 255


@dataclass(frozen=True)
class VrcConfig:
    """The vrc_config of config.json."""

    image_size: int = 96
    stem_channels: int = 16
    blocks: list[list[int]] = field(default_factory=lambda: [
        [1, 16, 1, 1], [4, 24, 2, 2], [4, 32, 2, 2], [4, 64, 2, 2]])
    last_channels: int = 128
    hidden_size: int = 64
    size_norm: int = 512
    grid: list[float] = field(default_factory=lambda: [round(0.1 + 0.05 * i, 2) for i in range(19)])


def through(x: Tensor, rounded: Tensor) -> Tensor:
    """The rounded value forwards, the gradient of x backwards."""
    return x + (rounded - x).detach()


def relu6(x: Tensor, quantized: bool) -> Tensor:
    x = F.relu6(x)
    return through(x, (x / STEP6).round() * STEP6) if quantized else x


def snap_weight(weight: Tensor) -> Tensor:
    """int8 with one scale an output channel."""
    flat = weight.flatten(1)
    scale = (flat.abs().amax(1) / 127).clamp_min(1e-8).view(-1, *[1] * (weight.ndim - 1))
    return (weight / scale).round().clamp(-128, 127) * scale


class Conv(nn.Module):
    """A convolution with batch norm, foldable; `projection`: no activation, int8 output."""

    def __init__(self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1,
                 projection: bool = False) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.normalization: nn.BatchNorm2d | None = nn.BatchNorm2d(outputs, momentum=0.05)
        self.projection, self.quantized, self.calibrating = projection, False, False
        if projection:
            self.register_buffer("output_scale", torch.tensor(6 / 127))

    def fold(self) -> None:
        """Put the batch norm into weight and bias."""
        n = self.normalization
        assert n is not None
        assert n.running_mean is not None
        assert n.running_var is not None
        factor = n.weight.detach() / (n.running_var + n.eps).sqrt()
        self.convolution.weight.data *= factor.view(-1, 1, 1, 1)
        self.convolution.bias = nn.Parameter(n.bias.detach() - n.running_mean * factor)
        self.normalization = None

    def linear(self, x: Tensor) -> Tensor:
        c = self.convolution
        weight = through(c.weight, snap_weight(c.weight)) if self.quantized else c.weight
        x = F.conv2d(x, weight, c.bias, c.stride, c.padding, groups=c.groups)
        return self.normalization(x) if self.normalization is not None else x

    def snap(self, x: Tensor) -> Tensor:
        """A projection's int8 grid."""
        if self.calibrating:
            self.output_scale.fill_(max(float(self.output_scale), float(x.detach().abs().amax()) / 127))
        if not self.quantized:
            return x
        s = self.output_scale
        return through(x, (x / s).round().clamp(-128, 127) * s)

    def forward(self, x: Tensor) -> Tensor:
        x = self.linear(x)
        return self.snap(x) if self.projection else relu6(x, self.quantized)


class Block(nn.Module):
    """Inverted residual."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        inner = inputs * expansion
        self.expand_1x1 = Conv(inputs, inner) if expansion > 1 else None
        self.conv_3x3 = Conv(inner, inner, 3, stride, inner)
        self.reduce_1x1 = Conv(inner, outputs, projection=True)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand_1x1 is None else self.expand_1x1(x)
        y = self.reduce_1x1(self.conv_3x3(y))
        return self.reduce_1x1.snap(x + y) if self.residual else y


class QuantLinear(nn.Linear):
    quantized = False

    def forward(self, x: Tensor) -> Tensor:
        weight = through(self.weight, snap_weight(self.weight)) if self.quantized else self.weight
        return F.linear(x, weight, self.bias)


class Vrc(nn.Module):
    """Thumbnails and sizes -> y in about 0..1, the place in the grid."""

    def __init__(self, config: VrcConfig) -> None:
        super().__init__()
        self.config, self.quantized = config, False
        layers, channels = [], config.stem_channels
        for expansion, outputs, repeats, stride in config.blocks:
            for i in range(repeats):
                layers.append(Block(channels, outputs, expansion, stride if i == 0 else 1))
                channels = outputs
        layers[0].residual = False  # its input is the stem's u8, which the engine's residual term does not take
        self.backbone = nn.ModuleDict({
            "conv_stem": nn.ModuleDict({"first_conv": Conv(3, config.stem_channels, 3, 2)}),
            "layer": nn.ModuleList(layers), "conv_1x1": Conv(channels, config.last_channels)})
        self.pool = nn.Conv2d(config.last_channels, 1, 1)
        self.fc1 = QuantLinear(config.last_channels + 2, config.hidden_size)
        self.fc2 = QuantLinear(config.hidden_size, 1)

    def forward(self, thumbnails: Tensor, sizes: Tensor) -> Tensor:
        """(B, 3, S, S) as (x - 128) / 128 and (B, 2) width and height in pixels -> (B)."""
        x = self.backbone["conv_stem"]["first_conv"](thumbnails)
        for block in self.backbone["layer"]:
            x = block(x)
        x = self.backbone["conv_1x1"](x)
        weight = through(self.pool.weight, snap_weight(self.pool.weight)) if self.quantized else self.pool.weight
        w = relu6(F.conv2d(x, weight, self.pool.bias), self.quantized) + STEP6
        p = relu6((x * w).sum((2, 3)) / w.sum((2, 3)), self.quantized)
        norm = self.config.size_norm
        side = torch.floor((sizes * 255 + norm // 2) / norm).clamp(max=255) * STEP6
        return self.fc2(relu6(self.fc1(torch.cat([p, side], 1)), self.quantized))[:, 0]

    def index(self, y: Tensor) -> Tensor:
        """The grid index of an output."""
        n = len(self.config.grid)
        return torch.floor(y * (n - 1) + 0.5).clamp(0, n - 1).long()

    def convs(self) -> list[Conv]:
        return [m for m in self.modules() if isinstance(m, Conv)]

    def calibrate(self, batches: list[tuple[Tensor, Tensor]]) -> None:
        """Fold the norms, find the projections' ranges, and compute on the integer grid from now on."""
        self.eval()
        for conv in self.convs():
            if conv.normalization is not None:
                conv.fold()
            if conv.projection:
                conv.output_scale.fill_(0.0)
                conv.calibrating = True
        with torch.no_grad():
            for thumbnails, sizes in batches:
                self(thumbnails, sizes)
        for conv in self.convs():
            conv.calibrating = False
        self.set_quantized(True)

    def set_quantized(self, on: bool) -> None:
        for module in self.modules():
            if isinstance(module, Conv | QuantLinear | Vrc):
                module.quantized = on


def thumbnail(image: Image.Image, size: int) -> np.ndarray:
    """(3, size, size) float32, (x - 128) / 128, squeezed to a square."""
    if image.size != (size, size):
        image = image.resize((size, size), Image.Resampling.BICUBIC)
    return (np.asarray(image, dtype=np.float32).transpose(2, 0, 1) - 128.0) / 128.0


def fit(vrc: Vrc, thumbnails: Tensor, sizes: Tensor, targets: Tensor, steps: int, lr: float, quantile: float,
        batch: int = 64) -> float:
    """Quantile regression (above 0.5: rather too much resolution than too little); -> the last mean loss."""
    vrc.train()
    params = [p for p in vrc.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(params, lr=lr, weight_decay=0.01)
    mean = math.nan
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = lr * min(1.0, (step + 1) / 50) * (1 - step / steps) + 1e-6
        rows = torch.randint(len(targets), (batch,))
        images = thumbnails[rows]
        if torch.rand(()) < 0.5:  # what a mirror image needs does not change, nor what a negative needs
            images = images.flip(-1)
        if torch.rand(()) < 0.5:
            images = images.flip(-2)
        if torch.rand(()) < 0.3:
            images = -images
        images = images[:, torch.randperm(3)] + torch.randn_like(images) * 0.01
        error = targets[rows] - vrc(images, sizes[rows])
        loss = F.smooth_l1_loss(error, torch.zeros_like(error), beta=0.05, reduction="none")
        loss = (loss * torch.where(error > 0, quantile, 1 - quantile)).mean() * 2
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        mean = loss.item() if math.isnan(mean) else 0.98 * mean + 0.02 * loss.item()
        if step % 100 == 0:
            print(f"  step {step} of {steps}: {mean:.5f}", flush=True)
    vrc.eval()
    return mean
