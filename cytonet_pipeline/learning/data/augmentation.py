"""Augment patches on the device, a batch at a time, each sample with its own draw.

Patches are larger than the network's input, so that a rotated crop shows tissue in its corners. The resulting grey
values are in 0..1, white background near 1.
"""

import math

import numpy as np
import torch
from torch.nn import functional

from cytonet_pipeline.learning.data.draws import normals, uniforms
from cytonet_pipeline.settings import AugmentationBlock

# One long row of noise, of which each sample takes a stretch from a random place: one draw per pixel would cost more
# than the network's first layer.
_NOISE_LENGTH = 1 << 20
DRAWS = 12


def margin_px(work_px: int, block: AugmentationBlock) -> int:
    """Return the edge of patches that contain every rotated and shifted crop of `work_px`.

    It is even if `work_px` is even, so that both have the same central pixel or border.
    """
    reach = (work_px - 1) / 2 * (math.sqrt(2) if block.rotation else 1) + block.crop_jitter_px
    edge = math.ceil(2 * reach + 1 - 1e-6)
    return edge + (edge - work_px) % 2


def central_crop(patches: torch.Tensor, work_px: int) -> torch.Tensor:
    """Crop the middle of uint8 patches (B, S, S), without augmentation, to float (B, 1, work_px, work_px) in 0..1."""
    start = (patches.shape[-1] - work_px) // 2
    crop = patches[:, start : start + work_px, start : start + work_px]
    return crop[:, None].float() / 255


class Augmentation:
    """Rotation, flip, shift, blur, staining, contrast, brightness, noise.

    Parameters
    ----------
    block : AugmentationBlock
        Strength of each transformation.
    work_px : int
        Edge of the network's input.
    seed : int
        Seed of the noise; everything else comes from each sample's key.
    """

    def __init__(self, block: AugmentationBlock, work_px: int, seed: int, device: torch.device) -> None:
        self.block = block
        self.work_px = work_px
        length = max(_NOISE_LENGTH, 4 * work_px**2) if block.noise else 0
        self._noise = torch.from_numpy(normals("noise", seed, length)).to(device)

    def __call__(self, patches: torch.Tensor, sample_keys: np.ndarray) -> torch.Tensor:
        """Augment a batch.

        Parameters
        ----------
        patches : (B, S, S) uint8 tensor
            With margin: S = `margin_px(work_px, block)`.
        sample_keys : (B,) uint64 array
            Key of each sample's draws; the same key gives the same augmentation.

        Returns
        -------
        (B, 1, work_px, work_px) float32 tensor in 0..1
        """
        u = torch.from_numpy(uniforms(sample_keys, DRAWS)).to(patches.device)
        with torch.no_grad():
            images = self._cropped(patches, u[:, 0:4])
            images = self._blurred(images, u[:, 4])
            return self._stained(images, u[:, 5:8], u[:, 8:10])

    def _cropped(self, patches: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Rotate, flip and shift in one bilinear interpolation."""
        block, size = self.block, patches.shape[-1]
        angle = u[:, 0] * (2 * math.pi if block.rotation else 0)
        flip = torch.where((u[:, 1] < 0.5) & block.flip, -1.0, 1.0)
        # affine_grid counts in half widths: a step of one output pixel must be a step of one input pixel.
        scale = self.work_px / size
        shift = (u[:, 2:4] * 2 - 1) * block.crop_jitter_px * 2 / size
        cos, sin = angle.cos() * scale, angle.sin() * scale
        rows = [torch.stack([cos * flip, -sin, shift[:, 0]], 1), torch.stack([sin * flip, cos, shift[:, 1]], 1)]
        grid = functional.affine_grid(
            torch.stack(rows, 1), [len(patches), 1, self.work_px, self.work_px], align_corners=False
        )
        return functional.grid_sample(
            patches[:, None].float() / 255, grid, mode="bilinear", padding_mode="border", align_corners=False
        )

    def _blurred(self, images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        """Blur by Gaussians with sigmas from 0 to `blur_px`, rows then columns."""
        if self.block.blur_px == 0:
            return images
        radius = math.ceil(2.5 * self.block.blur_px)
        offsets = torch.arange(-radius, radius + 1, device=u.device)
        sigma = (u * self.block.blur_px).clamp(min=1e-3)
        kernel = torch.softmax(-0.5 * (offsets[None] / sigma[:, None]) ** 2, 1)
        for axis, pad in ((-2, (0, 0, radius, radius)), (-1, (radius, radius, 0, 0))):
            padded = functional.pad(images, pad, mode="replicate")
            size = images.shape[axis]
            images = sum(
                (padded.narrow(axis, i, size) * kernel[:, i, None, None, None] for i in range(1, 2 * radius + 1)),
                start=padded.narrow(axis, 0, size) * kernel[:, 0, None, None, None],
            )
        return images

    def _stained(self, images: torch.Tensor, u: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Change staining strength, contrast and brightness, and add noise."""
        block = self.block
        signed = (u * 2 - 1)[:, :, None, None, None]
        if block.stain:
            # Transmitted light falls exponentially with the dye (Beer-Lambert): more dye is a power of the grey value.
            images = images.clamp(min=1 / 255) ** torch.exp2(signed[:, 0] * block.stain)
        if block.contrast:
            mean = images.mean((2, 3), keepdim=True)
            images = mean + (images - mean) * (1 + signed[:, 1] * block.contrast)
        if block.brightness:
            images = images + signed[:, 2] * block.brightness
        if block.noise:
            images = images + self._noise_for(images, noise)
        return images.clamp(0, 1)

    def _noise_for(self, images: torch.Tensor, u: torch.Tensor) -> torch.Tensor:
        pixels = images[0].numel()
        start = (u[:, 0].double() * (len(self._noise) - pixels)).long()
        stretches = self._noise.unfold(0, pixels, 1)[start]
        return stretches.view_as(images) * (u[:, 1] * self.block.noise)[:, None, None, None]
