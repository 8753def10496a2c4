"""The student's network as a PyTorch module, from a checkpoint of fewstep (docs/architecture.md, host/src/nn/unet.rs)."""

import json
import math

import torch
import torch.nn.functional as F
from safetensors import safe_open
from torch import nn

GROUP = 8
EPS = 1e-5


class Norm(nn.GroupNorm):
    """GroupNorm of groups of 8 channels."""

    def __init__(self, weights, name):
        channels = weights[f"{name}.scale"].numel()
        super().__init__(channels // GROUP, channels, EPS)
        self.weight.data = weights[f"{name}.scale"]
        self.bias.data = weights[f"{name}.shift"]


def conv(weights, name):
    w = weights[f"{name}.weight"].permute(0, 3, 1, 2).contiguous()
    layer = nn.Conv2d(w.shape[1], w.shape[0], w.shape[2], padding=w.shape[2] // 2)
    layer.weight.data = w
    layer.bias.data = weights[f"{name}.bias"]
    return layer


class Block(nn.Module):
    def __init__(self, weights, name):
        super().__init__()
        self.norm1, self.conv1 = Norm(weights, f"{name}.norm1"), conv(weights, f"{name}.conv1")
        self.norm2, self.conv2 = Norm(weights, f"{name}.norm2"), conv(weights, f"{name}.conv2")

    def forward(self, x, scale, shift):
        y = self.conv1(F.silu(self.norm1(x)))
        return x + self.conv2(F.silu(self.norm2(y) * scale + shift))


class Attention(nn.Module):
    def __init__(self, weights, heads):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.proj = Norm(weights, "attn.norm"), conv(weights, "attn.qkv"), conv(weights, "attn.proj")

    def forward(self, x):
        n, c, h, w = x.shape
        parts = self.qkv(self.norm(x)).chunk(3, 1)
        q, k, v = (part.reshape(n, self.heads, c // self.heads, h * w).transpose(2, 3) for part in parts)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.proj(y.transpose(2, 3).reshape(n, c, h, w))


class Student(nn.Module):
    """next = f(z, class, w) at one step of a student of `steps` steps."""

    def __init__(self, path, step, steps):
        super().__init__()
        with safe_open(path, "pt") as file:
            arch = json.loads(file.metadata()["fewstep"])["arch"]
            weights = {k: file.get_tensor(k).float() for k in file.keys()}
        self.arch = arch
        lowest = len(arch["widths"]) - 1
        names = []
        self.plan = []
        for level in range(lowest):
            names += [(f"enc.{level}.{i}", level) for i in range(arch["encoder"][level])]
            names.append((f"down.{level}", None))
        for i in range(arch["middle"]):
            names.append((f"mid.{i}", lowest))
            if arch["attention_heads"] and i + 1 == math.ceil(arch["middle"] / 2):
                names.append(("attn", None))
        for level in reversed(range(lowest)):
            names.append((f"up.{level}", None))
            names += [(f"dec.{level}.{i}", level) for i in range(arch["decoder"][level])]
        self.stages = nn.ModuleList()
        sizes = []
        for name, level in names:
            if level is not None:
                self.plan.append("block")
                self.stages.append(Block(weights, name))
                sizes += [arch["widths"][level]] * 2
            elif name == "attn":
                self.plan.append("attn")
                self.stages.append(Attention(weights, arch["attention_heads"]))
            else:
                self.plan.append(name.split(".")[0])
                self.stages.append(conv(weights, name))
        self.sizes = sizes
        self.conv_in, self.conv_out = conv(weights, "conv_in"), conv(weights, "conv_out")
        self.norm_out = Norm(weights, "norm_out")
        phi = math.pi / 2 * (1 - step / steps)
        turn = math.pi / 2 / steps
        self.keep, self.turn = math.cos(turn), math.sin(turn)
        k = torch.arange(1, 9) * phi
        time = weights["embed.time.weight"] @ torch.cat([k.sin(), k.cos()]) + weights["embed.time.bias"]
        self.register_buffer("classes", weights["embed.class"] + time)
        self.register_buffer("frequencies", torch.arange(1, 5) * (math.pi / 8))
        self.guidance = nn.Parameter(weights["embed.guidance"])
        for name in ("hidden", "film"):
            w = weights[f"embed.{name}.weight"]
            layer = nn.Linear(w.shape[1], w.shape[0])
            layer.weight.data, layer.bias.data = w, weights[f"embed.{name}.bias"]
            setattr(self, name, layer)

    def forward(self, z, label, w):
        a = w[:, None] * self.frequencies
        e = F.embedding(label, self.classes) + torch.cat([a.sin(), a.cos()], 1).to(self.guidance.dtype) @ self.guidance.T
        film = self.film(F.silu(self.hidden(F.silu(e))))[:, :, None, None].split(self.sizes, 1)
        p = self.arch["patch"]
        n, c, h, width = z.shape
        if c == 1:
            x = F.pixel_unshuffle(z, p)
        else:  # channels of a patch go by row, column, channel, which is not PyTorch's order
            x = z.reshape(n, c, h // p, p, width // p, p).permute(0, 3, 5, 1, 2, 4)
            x = x.reshape(n, p * p * c, h // p, width // p)
        x = self.conv_in(x.to(self.guidance.dtype).contiguous(memory_format=torch.channels_last))
        streams, block = [], 0
        for kind, stage in zip(self.plan, self.stages):
            if kind == "block":
                x = stage(x, film[2 * block] + 1, film[2 * block + 1])
                block += 1
            elif kind == "attn":
                x = stage(x)
            elif kind == "down":
                streams.append(x)
                x = stage(F.avg_pool2d(x, 2))
            else:
                x = streams.pop() + F.interpolate(stage(x), scale_factor=2, mode="nearest")
        v = self.conv_out(F.silu(self.norm_out(x))).float()
        if c == 1:
            v = F.pixel_shuffle(v, p)
        else:
            v = v.reshape(n, p, p, c, h // p, width // p).permute(0, 3, 4, 1, 5, 2).reshape(z.shape)
        return self.keep * z - self.turn * v
