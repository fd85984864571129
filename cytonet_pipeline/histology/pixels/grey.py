"""Stored samples turned into grey values of 8 bit: luminance, one intensity window, dark on light."""

import numpy as np

from cytonet_pipeline.errors import ScanError
from cytonet_pipeline.histology.formats.reader import Samples

_ROWS_AT_ONCE_PX = 1 << 20


class Greyscale:
    """Conversion of the samples of one scan to grey values.

    Parameters
    ----------
    samples : Samples
        What the scan stores.
    name : str
        The scan, for messages.
    window : (low, high), optional
        Grey values that become 0 and 255; default: 0 and the largest number that `BitsPerSample` bits can hold. With
        `low` above `high` the scan is inverted.
    invert : bool
        Whether to exchange the two, for a scan that is light on dark.

    Attributes
    ----------
    window : (low, high)
        The grey values that become 0 and 255.

    Notes
    -----
    Colours become the luminance of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B, rounded. Transparency is composed on
    white: behind it many programs store black. The pipeline expects a cell-body stain, dark on light, so an image
    stored as MinIsWhite is inverted before the window.
    """

    def __init__(
        self, samples: Samples, name: str, window: tuple[int, int] | None = None, *, invert: bool = False
    ) -> None:
        self.is_colour = samples.colour
        self.bits = samples.bits
        self.white_is_zero = samples.white_is_zero
        low, high = window or (0, 2**self.bits - 1)
        if low == high:
            raise ScanError(
                f"{name}: the intensity window ({low}, {high}) is empty.",
                to_fix="give two grey values in `window` of the experiments file",
            )
        self.window = low, high = (high, low) if invert else (low, high)
        values = np.arange(2**self.bits, dtype=np.float64)
        if samples.white_is_zero:
            values = values[::-1]
        scaled = np.floor((values - low) * (255 / (high - low)) + 0.5)
        self._table = np.clip(scaled, 0, 255).astype(np.uint8)
        self._alpha = samples.alpha
        # The stored value that becomes white, whatever the window: transparent parts show the slide.
        self._light = 2**self.bits - 1 if (low < high) != samples.white_is_zero else 0
        self.plain = self.bits == 8 and bool((self._table == np.arange(256)).all())
        self.key = (low, high, samples)

    def values(self, samples: np.ndarray) -> np.ndarray:
        """Turn (H, W, S) samples into (H, W) grey values before the window."""
        grey = self._composed(samples)
        return 2**self.bits - 1 - grey if self.white_is_zero else grey

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Turn (H, W, S) samples into (H, W) grey values of uint8."""
        grey = self._composed(samples)
        if self.plain:
            return np.ascontiguousarray(grey)
        return np.take(self._table, grey, mode="clip")

    def _composed(self, samples: np.ndarray) -> np.ndarray:
        grey = luminance(samples[..., :3]) if self.is_colour else samples[..., 0]
        if not self._alpha:
            return grey
        opacity = samples[..., 3 if self.is_colour else 1]
        return on_light(grey, opacity, self._light, 2**self.bits - 1, premultiplied=self._alpha == "associated")


def luminance(colour: np.ndarray) -> np.ndarray:
    """Compute the luminance (ITU-R BT.601) of (H, W, 3) unsigned samples, rounded, in their own type."""
    height, width, _ = colour.shape
    grey = np.empty((height, width), colour.dtype)
    step = max(1, _ROWS_AT_ONCE_PX // max(1, width))
    for top in range(0, height, step):
        red, green, blue = (colour[top : top + step, :, c].astype(np.uint32) for c in range(3))
        grey[top : top + step] = (299 * red + 587 * green + 114 * blue + 500) // 1000
    return grey


def on_light(grey: np.ndarray, opacity: np.ndarray, light: int, opaque: int, *, premultiplied: bool) -> np.ndarray:
    """Compose grey values of some opacity on a light ground, rounded, in their own type.

    Parameters
    ----------
    grey, opacity : (H, W) unsigned arrays
        Of the same type.
    light, opaque : int
        Value of the ground, and of full opacity.
    premultiplied : bool
        Whether the grey values are stored multiplied by their opacity.
    """
    over, share = grey.astype(np.int64), opacity.astype(np.int64)
    over = over * (opaque if premultiplied else share)
    composed = (over + light * (opaque - share) + opaque // 2) // opaque
    return np.clip(composed, 0, opaque).astype(grey.dtype)
