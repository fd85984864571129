"""GPUs that a resource plan can be made for: memory and peak rates as their makers state them.

Sources: data sheets of NVIDIA A100 (2020), H100 and H200 (2023), GH200 (2023), L40S (2023) and the Ada GPU architecture
paper (RTX 4090). Rates are dense, without sparsity. Memory is what the driver leaves of the nominal size.
"""

from dataclasses import dataclass

from cytonet_pipeline.learning.registry import entry_named


@dataclass(frozen=True)
class Gpu:
    """A kind of GPU.

    Attributes
    ----------
    memory_gib : float
        What a process can use.
    bf16_tflops, tf32_tflops : float
        Peak rate of its matrix units.
    """

    name: str
    memory_gib: float
    bf16_tflops: float
    tf32_tflops: float


GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-40GB", 39.4, 312, 156),
        Gpu("A100-80GB", 79.1, 312, 156),
        Gpu("H100-80GB", 79.1, 989, 494),
        Gpu("H200-141GB", 139.7, 989, 494),
        Gpu("GH200-96GB", 94.5, 989, 494),
        Gpu("L40S-48GB", 44.4, 362, 183),
        Gpu("RTX4090-24GB", 23.5, 165, 82.6),
    )
}


def gpu_named(name: str) -> Gpu:
    """Return a GPU of the table; a `ConfigurationError` lists the known ones if there is none of that name."""
    return entry_named(name, GPUS, "GPU")
