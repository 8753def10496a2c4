"""Draws with a network of fewstep:

    pipeline = DiffusionPipeline.from_pretrained(FOLDER, custom_pipeline=FOLDER, trust_remote_code=True)
    pictures = pipeline([3, 8], guidance=1.5, num_inference_steps=64).images
"""

import math

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput


class FewstepPipeline(DiffusionPipeline):
    def __init__(self, unet):
        super().__init__()
        self.register_modules(unet=unet)

    @torch.no_grad()
    def __call__(
        self, class_labels, guidance=1.0, num_inference_steps=None, generator=None, latents=None, output_type="pil"
    ):
        """A picture for each class. Steps: the network's own where it was distilled for a number of them. output_type
        "latent" gives the values [B, C, H, W] as they come, about -1 to 1."""
        c = self.unet.config
        steps = num_inference_steps or c.steps or 64
        labels = torch.as_tensor(class_labels, device=self.device)
        n = len(labels)
        shape = (n, c.channels, c.height, c.width)
        if latents is None:
            where = generator.device if generator is not None else self.device
            latents = torch.randn(shape, generator=generator, device=where)
        z = latents.to(self.device, self.unet.dtype)
        null = torch.full_like(labels, c.classes)
        for i in range(steps):
            phi = math.pi / 2 * (1 - i / steps)
            d = phi - math.pi / 2 * (1 - (i + 1) / steps)
            v = self.v(z, torch.full((n,), phi, device=self.device), labels, null, guidance)
            # DDIM by angles is a rotation.
            z = math.cos(d) * z - math.sin(d) * v
        if output_type == "latent":
            return ImagePipelineOutput(images=z)
        images = ((z + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).float().cpu().numpy()
        return ImagePipelineOutput(images=self.numpy_to_pil(images) if output_type == "pil" else images)

    def v(self, z, phi, labels, null, guidance):
        if self.unet.config.guided:
            return self.unet(z, phi, labels, torch.full_like(phi, guidance))
        if guidance == 0:
            return self.unet(z, phi, labels)
        both = self.unet(torch.cat([z, z]), torch.cat([phi, phi]), torch.cat([labels, null]))
        with_class, without = both.chunk(2)
        return (1 + guidance) * with_class - guidance * without
