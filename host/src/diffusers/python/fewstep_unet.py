"""The network of fewstep (its docs/architecture.md and docs/teachers.md) as a diffusers model: v from a noised picture,
the angle phi, the class and, where the network was distilled, the guidance strength w.

phi runs from pi/2 (noise) to 0 (picture): z = cos(phi) x + sin(phi) eps, v = cos(phi) eps - sin(phi) x.
"""

import math

import torch
import torch.nn.functional as F
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.modeling_utils import ModelMixin
from torch import nn

TIME_FEATURES = 16
GUIDANCE_FEATURES = 8
MAX_GUIDANCE = 4.0
GROUP = 8
EPS = 1e-5


def features(values, count, unit):
    """Sines, then cosines, of count / 2 multiples of each value."""
    multiples = torch.arange(1, count // 2 + 1, dtype=torch.float64, device=values.device)
    angles = values.double()[:, None] * multiples * unit
    return torch.cat([angles.sin(), angles.cos()], dim=1)


def group_norm(channels):
    return nn.GroupNorm(channels // GROUP, channels, eps=EPS)


class Block(nn.Module):
    """x + conv2(silu(scale and shift of norm2(conv1(silu(norm1(x))))))."""

    def __init__(self, channels):
        super().__init__()
        self.norm1, self.norm2 = group_norm(channels), group_norm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x, film):
        scale, shift = film[:, :, None, None].chunk(2, dim=1)
        y = self.conv1(F.silu(self.norm1(x)))
        y = self.norm2(y) * (1 + scale) + shift
        return x + self.conv2(F.silu(y))


class Attention(nn.Module):
    """Softmax attention over the places of a picture; q, k and v in one convolution."""

    def __init__(self, channels, heads):
        super().__init__()
        self.heads = heads
        self.norm = group_norm(channels)
        self.qkv = nn.Conv2d(channels, 3 * channels, 1)
        self.proj = nn.Conv2d(channels, channels, 1)

    def forward(self, x):
        n, c, h, w = x.shape
        qkv = self.qkv(self.norm(x)).reshape(n, 3, self.heads, c // self.heads, h * w)
        q, k, v = (part.transpose(2, 3) for part in qkv.unbind(1))
        weights = (q @ k.transpose(2, 3) / math.sqrt(c // self.heads)).softmax(dim=3)
        return x + self.proj((weights @ v).transpose(2, 3).reshape(n, c, h, w))


class FewstepUNet(ModelMixin, ConfigMixin):
    @register_to_config
    def __init__(
        self,
        height=28,
        width=28,
        channels=1,
        classes=10,
        patch=2,
        widths=(32, 64),
        encoder=(2,),
        middle=5,
        decoder=(3,),
        attention_heads=1,
        embed=64,
        guided=False,
        steps=None,
        class_names=None,
    ):
        super().__init__()
        lowest = len(widths) - 1
        depth = patch * patch * channels
        self.conv_in = nn.Conv2d(depth, widths[0], 3, padding=1)
        self.enc = nn.ModuleList(
            nn.ModuleList(Block(widths[level]) for _ in range(encoder[level])) for level in range(lowest)
        )
        self.down = nn.ModuleList(nn.Conv2d(widths[level], widths[level + 1], 1) for level in range(lowest))
        self.mid = nn.ModuleList(Block(widths[lowest]) for _ in range(middle))
        self.attn = Attention(widths[lowest], attention_heads) if attention_heads else None
        self.up = nn.ModuleList(nn.Conv2d(widths[level + 1], widths[level], 1) for level in range(lowest))
        self.dec = nn.ModuleList(
            nn.ModuleList(Block(widths[level]) for _ in range(decoder[level])) for level in range(lowest)
        )
        self.norm_out = group_norm(widths[0])
        self.conv_out = nn.Conv2d(widths[0], depth, 3, padding=1)
        film = 2 * sum(
            widths[level] * (middle if level == lowest else encoder[level] + decoder[level])
            for level in range(lowest + 1)
        )
        self.embedding = nn.ModuleDict(
            {
                "time": nn.Linear(TIME_FEATURES, embed),
                "class": nn.Embedding(classes + 1, embed),
                "hidden": nn.Linear(embed, embed),
                "film": nn.Linear(embed, film),
            }
        )
        if guided:
            self.embedding["guidance"] = nn.Linear(GUIDANCE_FEATURES, embed, bias=False)

    def forward(self, sample, phi, class_labels, w=None):
        """v [B, C, H, W] of pictures [B, C, H, W] at angles phi [B]; the class after the last stands for none. w [B] for
        networks that take it."""
        c = self.config
        e = self.embedding["time"](features(phi, TIME_FEATURES, 1.0).to(self.dtype)) + self.embedding["class"](class_labels)
        if c.guided:
            unit = math.pi / 2 / MAX_GUIDANCE
            e = e + self.embedding["guidance"](features(w, GUIDANCE_FEATURES, unit).to(self.dtype))
        film = self.embedding["film"](F.silu(self.embedding["hidden"](F.silu(e))))

        at = 0

        def block(module, x):
            nonlocal at
            at += 2 * x.shape[1]
            return module(x, film[:, at - 2 * x.shape[1] : at])

        n, channels, height, width = sample.shape
        p = c.patch
        # Space to depth: channels of a patch in the order row, column, channel.
        x = sample.reshape(n, channels, height // p, p, width // p, p).permute(0, 3, 5, 1, 2, 4)
        x = self.conv_in(x.reshape(n, p * p * channels, height // p, width // p))
        streams = []
        for blocks, down in zip(self.enc, self.down):
            for module in blocks:
                x = block(module, x)
            streams.append(x)
            x = down(F.avg_pool2d(x, 2))
        for i, module in enumerate(self.mid):
            x = block(module, x)
            if self.attn is not None and i + 1 == (len(self.mid) + 1) // 2:
                x = self.attn(x)
        for blocks, up in zip(reversed(self.dec), reversed(self.up)):
            x = streams.pop() + F.interpolate(up(x), scale_factor=2, mode="nearest")
            for module in blocks:
                x = block(module, x)
        x = self.conv_out(F.silu(self.norm_out(x)))
        x = x.reshape(n, p, p, channels, height // p, width // p).permute(0, 3, 4, 1, 5, 2)
        return x.reshape(n, channels, height, width)
