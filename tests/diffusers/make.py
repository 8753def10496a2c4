"""Makes the teachers of diffusers that the import is tested with, and what diffusers itself computes with them.

    python3 -m venv --system-site-packages VENV     # PyTorch for the CPU: apt-get install python3-torch python3-venv
    VENV/bin/pip install -r tests/diffusers/requirements.txt
    VENV/bin/python tests/diffusers/make.py         # writes the folders beside this file, and exported.safetensors
    VENV/bin/python tests/diffusers/make.py --check # the installed diffusers against what is there

Each folder is what save_pretrained writes, with golden.safetensors: noise, the network's outputs at some timesteps, and
DDIM's pictures. Weights are seeded; two of the networks are random, one is trained for a minute. exported.safetensors is
what diffusers draws with the project's own teacher and student (the safetensors beside it, made by make.sh) after
`fewstep export --to diffusers`.
"""

import argparse
import gzip
import json
import shutil
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, DDPMPipeline, DDPMScheduler, DiffusionPipeline, UNet2DModel
from safetensors.torch import load_file, save_file

HERE = Path(__file__).parent
SMALL = HERE.parent.parent / "assets" / "fashion-mnist-small"
COUNT = 4
NULL = 10


def random_unconditional():
    """As DDPM's published models are shaped: padding 0 on the way down, attention of one head, epsilon, linear."""
    unet = UNet2DModel(
        sample_size=8, in_channels=3, out_channels=3, layers_per_block=2, block_out_channels=(8, 16),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=None, norm_num_groups=4, norm_eps=1e-6, downsample_padding=0, flip_sin_to_cos=False,
        freq_shift=1, mid_block_scale_factor=1.25,
    )
    return unet, DDPMScheduler(variance_type="fixed_large")


def random_conditional():
    """Everything else: classes without a null class, v, cosine, time as scale and shift, attention everywhere."""
    unet = UNet2DModel(
        sample_size=(8, 12), in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(8, 16, 16),
        down_block_types=("AttnDownBlock2D", "DownBlock2D", "AttnDownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "AttnUpBlock2D"),
        attention_head_dim=8, norm_num_groups=4, attn_norm_num_groups=2, resnet_time_scale_shift="scale_shift",
        center_input_sample=True, num_class_embeds=3,
    )
    scheduler = DDIMScheduler(
        beta_schedule="squaredcos_cap_v2", prediction_type="v_prediction", clip_sample=False, set_alpha_to_one=False,
        timestep_spacing="trailing",
    )
    return unet, scheduler


def trained():
    """Ten classes and a null class, trained on Fashion-MNIST at 8x8 for a minute."""
    unet = UNet2DModel(
        sample_size=8, in_channels=1, out_channels=1, layers_per_block=1, block_out_channels=(12, 24),
        down_block_types=("DownBlock2D", "AttnDownBlock2D"), up_block_types=("AttnUpBlock2D", "UpBlock2D"),
        norm_num_groups=4, num_class_embeds=NULL + 1,
    )
    scheduler = DDPMScheduler(beta_schedule="scaled_linear", beta_start=0.0015, beta_end=0.0195, steps_offset=1)
    read = lambda name, skip: np.frombuffer(gzip.open(SMALL / name).read(), np.uint8)[skip:]
    pictures = read("train-images-idx3-ubyte.gz", 16).reshape(-1, 1, 28, 28)
    labels = torch.from_numpy(read("train-labels-idx1-ubyte.gz", 8).astype(np.int64))
    x = torch.nn.functional.pad(torch.from_numpy(pictures.copy()).float(), (2, 2, 2, 2))
    x = torch.nn.functional.avg_pool2d(x, 4).round() / 127.5 - 1
    optimizer = torch.optim.Adam(unet.parameters(), lr=2e-3)
    steps = 1200
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 1 - step / steps)
    for step in range(steps):
        pick = torch.randint(len(x), (64,))
        label = torch.where(torch.rand(64) < 0.15, torch.tensor(NULL), labels[pick])
        t, eps = torch.randint(1000, (64,)), torch.randn(64, 1, 8, 8)
        loss = (unet(scheduler.add_noise(x[pick], eps, t), t, label).sample - eps).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rate.step()
        if step % 200 == 199:
            print(f"step {step + 1}: loss {loss.item():.4f}")
    return unet, scheduler


@torch.no_grad()
def golden(unet, scheduler, null, z=None):
    c = unet.config
    sides = c.sample_size if isinstance(c.sample_size, (tuple, list)) else (c.sample_size, c.sample_size)
    z = torch.randn(COUNT, c.in_channels, *sides) if z is None else z
    label = torch.arange(COUNT) % 3 if c.num_class_embeds else None
    out = {"noise": z}
    for t in [0, 1, 371.5, 998, 999]:
        out[f"out.{t}"] = unet(z, torch.full((COUNT,), t), label).sample
    ddim = DDIMScheduler.from_config(scheduler.config)
    # A random network of epsilon multiplies rounding: from 20 steps on diffusers in f32 is not what it is in f64.
    for steps in [1, 5] if scheduler.config.prediction_type == "epsilon" and null is None else [1, 5, 50]:
        for w in [0.0, 1.5] if null is not None else [0.0]:
            ddim.set_timesteps(steps)
            x = z
            for t in ddim.timesteps:
                eps = unet(x, t, label).sample
                if w:
                    eps = (1 + w) * eps - w * unet(x, t, torch.full((COUNT,), null)).sample
                x = ddim.step(eps, t, x).prev_sample
            out[f"ddim.{steps}.{w}"] = x
    return {name: t.contiguous() for name, t in out.items()}


@torch.no_grad()
def exported(fewstep):
    """What diffusers draws with the project's own networks, exported by the program."""
    torch.manual_seed(7)
    out = {"noise": torch.randn(2, 1, 28, 28)}
    with tempfile.TemporaryDirectory() as place:
        for name, steps in [("teacher", 8), ("student-2", None)]:
            folder = f"{place}/{name}"
            subprocess.run(
                [fewstep, "export", HERE / f"{name}.safetensors", "--to", "diffusers", "--out", folder], check=True
            )
            pipeline = DiffusionPipeline.from_pretrained(folder, custom_pipeline=folder, trust_remote_code=True)
            pictures = pipeline(
                [0, 7], guidance=1.5, num_inference_steps=steps, latents=out["noise"], output_type="latent"
            )
            out[name] = pictures.images.contiguous()
            assert len(pipeline([3], num_inference_steps=2).images) == 1
    return out


def apart(found, wanted):
    """The largest difference of any value."""
    assert found.keys() == wanted.keys()
    return max((found[name] - wanted[name]).abs().max().item() for name in wanted)


def check(fewstep):
    """The installed diffusers against the golden files."""
    worst = {"exported": apart(exported(fewstep), load_file(HERE / "exported.safetensors"))}
    for seed, (make, null) in enumerate(FIXTURES):
        folder = HERE / name_of(make)
        pipeline = DiffusionPipeline.from_pretrained(folder)
        torch.manual_seed(seed)
        wanted = load_file(folder / "golden.safetensors")
        # From the same noise: the golden file's.
        worst[folder.name] = apart(golden(pipeline.unet.eval(), pipeline.scheduler, null, wanted["noise"]), wanted)
    for name, difference in worst.items():
        print(f"{name}: {difference:.2e}")
    assert max(worst.values()) < 1e-4


def name_of(make):
    return make.__name__.replace("_", "-")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fewstep", default="target/release/fewstep", help="the program")
    parser.add_argument("--check", action="store_true", help="compare the installed diffusers with the golden files")
    parser.add_argument("--exported", action="store_true", help="make only exported.safetensors")
    args = parser.parse_args()
    if args.check:
        return check(args.fewstep)
    if args.exported:
        return save_file(exported(args.fewstep), HERE / "exported.safetensors")
    for seed, (make, null) in enumerate(FIXTURES):
        torch.manual_seed(seed)
        unet, scheduler = make()
        unet.eval()
        folder = HERE / name_of(make)
        shutil.rmtree(folder, ignore_errors=True)
        kind = DDIMPipeline if isinstance(scheduler, DDIMScheduler) else DDPMPipeline
        pipeline = kind(unet=unet, scheduler=scheduler)
        # A DDIM pipeline makes a scheduler of its own, with other settings.
        pipeline.register_modules(unet=unet, scheduler=scheduler)
        pipeline.save_pretrained(folder, safe_serialization=True)
        save_file(golden(unet, scheduler, null), folder / "golden.safetensors")
        for file in folder.rglob("*.json"):
            # Not where it was made.
            config = {k: v for k, v in json.loads(file.read_text()).items() if k != "_name_or_path"}
            file.write_text(json.dumps(config, indent=2) + "\n")
        print(folder, sum(p.numel() for p in unet.parameters()), "parameters")
    save_file(exported(args.fewstep), HERE / "exported.safetensors")


FIXTURES = [(random_unconditional, None), (random_conditional, None), (trained, NULL)]
main()
