"""Resource plans: memory from a walk without numbers against memory of real passes, and the poster's grid."""

import json

import pytest
import torch

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.learning.backbones.encoders import new_encoder, projection_head
from cytonet_pipeline.learning.backbones.recomputation import checkpoint_activations
from cytonet_pipeline.learning.data.augmentation import Augmentation, margin_px
from cytonet_pipeline.learning.planning.gpu_memory import GIB, memory_of, ways_to_fit
from cytonet_pipeline.learning.planning.gpus import GPUS, Gpu
from cytonet_pipeline.learning.planning.pass_cost import LiveBytes, augmentation_bytes, pass_cost, weights_of
from cytonet_pipeline.learning.planning.resource_plan import decoded_bytes, plan_of, plan_training, remarks, table
from cytonet_pipeline.settings import AugmentationBlock, EncoderBlock, Settings
from cytonet_pipeline_tests.conftest import PROJECT

POSTER = Settings.from_environment({"CYTONET_EXPERIMENTS": str(PROJECT / "experiments" / "poster.yaml")})
# 2048 px on 64 GPUs, as on the poster, with nothing switched on.
BARE = EncoderBlock(
    method="cytonet",
    backbone="resnet50",
    working_pixel_um=2,
    samples=200_000,
    batch_size=2048,
    processes=64,
    precision="bf16",
)


def saved_bytes(backbone, images, work_px, *, recomputed):
    """What autograd keeps of a real forward pass on the CPU, without weights and input."""
    encoder = new_encoder(backbone, 0.5, 0.2, 0).train()
    if recomputed:
        checkpoint_activations(encoder)
    batch = torch.rand(images, 1, work_px, work_px)
    given = {t.data_ptr() for t in (*encoder.parameters(), *encoder.buffers(), batch)}
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        features = encoder(batch)
    assert features.requires_grad
    return sum(t.untyped_storage().nbytes() for place, t in kept.items() if place not in given)


@pytest.mark.parametrize("recomputed", [False, True])
@pytest.mark.parametrize(("backbone", "images", "work_px"), [("small", 8, 32), ("resnet50", 2, 96)])
def test_the_walk_counts_what_autograd_really_keeps(backbone, images, work_px, recomputed):
    walked = pass_cost(backbone, images, work_px, bf16=False, recomputed=recomputed)

    measured = saved_bytes(backbone, images, work_px, recomputed=recomputed)

    assert walked.kept_bytes == pytest.approx(measured, rel=0.02)
    assert walked.peak_bytes > walked.kept_bytes


def test_the_walk_counts_what_a_real_augmentation_holds():
    block = AugmentationBlock(noise=0)
    size = margin_px(64, block)
    patches = torch.randint(0, 255, (16, size, size), dtype=torch.uint8)
    augment = Augmentation(block, 64, 0, torch.device("cpu"))
    keys = torch.arange(16).numpy().astype("uint64")

    with LiveBytes() as live:
        augment(patches, keys)

    assert augmentation_bytes(block, 16, 64) == pytest.approx(live.peak, rel=0.02)


@pytest.mark.parametrize(("backbone", "gib"), [("resnet50", 3.4), ("resnet101", 5.0)])
def test_an_image_of_the_poster_keeps_gigabytes(backbone, gib):
    cost = pass_cost(backbone, 1, 2048, bf16=True, recomputed=False)

    assert cost.kept_bytes / GIB == pytest.approx(gib, abs=0.05)


def test_operations_are_those_of_the_literature():
    """ResNet-50 at 224 px: 4.09·10⁹ multiplications with additions for three channels, 0.08·10⁹ less for one."""
    cost = pass_cost("resnet50", 1, 224, bf16=True, recomputed=False)
    again = pass_cost("resnet50", 1, 224, bf16=True, recomputed=True)

    assert cost.forward_flops == pytest.approx(2 * 4.01e9, rel=0.01)
    assert cost.flops == pytest.approx(3 * cost.forward_flops, rel=0.02)
    assert again.flops == pytest.approx(4 * cost.forward_flops, rel=0.02)


def test_weights_are_counted_with_the_head():
    encoder = new_encoder("small", 0, 1, 0)
    head = projection_head(encoder.feature_dim, 128, 0)

    assert weights_of("small", 128) == sum(p.numel() for module in (encoder, head) for p in module.parameters())


def test_every_encoder_of_the_poster_fits_the_gpus_that_the_poster_used():
    plans = plan_training(POSTER, "A100-40GB")

    assert {p.encoder for p in plans} == set(POSTER.experiments.encoders)
    assert [p.encoder for p in plans if not p.fits] == []
    assert {p.gpus for p in plans} == {64}
    json.dumps([p.as_json() for p in plans])
    assert "NO" not in table(plans).to_string()


@pytest.mark.parametrize("kind", ["A100-40GB", "RTX4090-24GB"])
def test_the_proposed_changes_make_it_fit(kind):
    gpu = GPUS[kind]

    bare = plan_of("bare", BARE, 4096.0, gpu, None, 1.0)

    assert not bare.fits
    assert "bare: " in remarks([bare])[0]
    assert bare.switch_on
    for way in bare.switch_on:
        change = dict(entry.split(": ") for entry in way.split(", "))
        better = EncoderBlock.model_validate({**BARE.model_dump(), **change})
        assert memory_of(better, 4096.0, 64).total <= gpu.memory_gib


def test_a_plan_that_nothing_can_make_fit_says_so():
    """A process needs more than this GPU has before the first tensor is made."""
    block = BARE.model_copy(update={"backbone": "small", "batch_size": 4})

    bare = plan_of("bare", block, 4096.0, Gpu("toy", 2.0, 1, 1), 1, 1.0)

    assert bare.switch_on == ()
    assert "nothing here helps" in remarks([bare])[0]


def test_time_reads_and_shards_follow_from_the_entry():
    gpu = GPUS["A100-40GB"]
    one = plan_of("one", BARE.model_copy(update={"steps": 5000}), 4096.0, gpu, None, 1.0)
    more = plan_of("more", BARE.model_copy(update={"steps": 5000}), 4096.0, gpu, 128, 1.0)
    edge = margin_px(2048, BARE.augmentation)

    assert one.epochs == pytest.approx(51.2)
    assert one.hours * 3600 * one.images_per_s == pytest.approx(5000 * 2048)
    assert one.pack_tb == pytest.approx(200_000 * edge**2 / 1e12)
    assert one.gb_per_s_packed == pytest.approx(one.images_per_s * edge**2 / 1e9)
    assert more.hours == pytest.approx(one.hours / 2)
    assert more.images_per_gpu == 16


def test_a_plan_gives_no_rates_where_arithmetic_is_not_what_takes_time():
    """Three million patches per second for the demo: nothing reads so fast, and nobody has to."""
    demo = Settings.from_environment({"CYTONET_EXPERIMENTS": str(PROJECT / "experiments" / "demo.yaml")})

    plans = plan_training(demo, "A100-40GB", ["demo_cytonet", "demo_position"])

    rows = table(plans).set_index("encoder")
    assert rows.loc["demo_cytonet", "hours"] == "<0.1"
    assert rows.loc["demo_position", "hours"] == "–"
    assert not {"reads/s", "GB/s scans", "pack TB", "switch on"} & {*rows.columns}
    assert any(line.startswith("<0.1: ") for line in remarks(plans))
    assert "reads/s" in table(plan_training(POSTER, "A100-40GB", ["poster_r50_200k"]))


def test_patches_read_ahead_need_memory_of_the_node():
    """Batches of 32 patches of 8.4 MB take 0.5 GiB each, page-locked; two readers copy from 0.25 GiB.

    From the scans one thread does so, and two buffers of four batches are there.
    """
    packed = plan_of("packed", BARE, 4096.0, GPUS["A100-40GB"], None, 1.0)
    scans = plan_of("scans", BARE.model_copy(update={"loading": "scans"}), 4096.0, GPUS["A100-40GB"], None, 1.0)
    batch_gib = 32 * margin_px(2048, BARE.augmentation) ** 2 / GIB

    assert packed.host_gib == pytest.approx(4 * 0.5 + 2 * batch_gib)
    assert scans.host_gib == pytest.approx(4 * 0.5 + (1 + 2 * 4) * batch_gib)


def test_a_patch_is_decoded_from_the_level_that_is_fine_enough():
    assert decoded_bytes(1000, 2.0, 1.0) == 1512**2
    assert decoded_bytes(1000, 3.0, 1.0) == 2012**2


def test_controls_without_training_need_no_resources():
    without = BARE.model_copy(update={"method": "position"})

    nothing = plan_of("position", without, 4096.0, GPUS["A100-40GB"], None, 1.0)

    assert nothing.fits
    assert nothing.memory is None
    assert nothing.hours == 0


def test_activation_checkpointing_is_not_proposed_for_a_compiled_encoder():
    """`compile` and `activation_checkpointing` exclude each other."""
    block = BARE.model_copy(update={"compile": True})

    assert all("activation_checkpointing" not in way for way in ways_to_fit(block, 4096.0, 64, GPUS["A100-40GB"]))


def test_the_error_for_an_unknown_gpu_lists_the_known_ones():
    with pytest.raises(ConfigurationError) as fault:
        plan_training(POSTER, "A100")

    assert "A100-40GB" in str(fault.value)
