"""What the store does not have yet: brains to ingest and encoders to train.

Both functions compare the data set and the settings with the store, whenever they are asked: what happened between two
calls, or while a run was in progress, is not lost. The sensor `new_brains` and the schedule `retrain` are thin wrappers
around them.
"""

import logging
from dataclasses import dataclass, field

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.histology import COLIN27_TRANSFORMS, PATCH_INDEX, SECTION_SCANS
from cytonet_pipeline.stages.reference import REFERENCE_SPACE
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.stages.training import ENCODER
from cytonet_pipeline.stages.waiting import fault_of, reason_not_to_train, vanished_brains
from cytonet_pipeline.store import digest_left_in, digest_of

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Pending:
    """What is to be computed, and what cannot be.

    Attributes
    ----------
    inputs : dict
        By brain or encoder, a digest of all that its result would be made from now. It stays the same while the result
        is being computed.
    faults : dict
        By brain or encoder that is left out, why.
    not_released : dict
        By brain that the store has and that the data set does not have or release now, why it takes no part in
        training.
    """

    inputs: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    not_released: dict[str, str] = field(default_factory=dict)


def brains_to_ingest(settings: Settings) -> Pending:
    """Find released brains of which a result is missing or was made from other inputs.

    A brain that cannot be examined is named with the reason and does not keep the others from being found; so is one
    that waits for confirmation, was forgotten, or has vanished.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.dataset import Dataset
    from cytonet_pipeline.lineage import stored_brains_left_out

    left_out = stored_brains_left_out(settings, store_of(settings))
    pending = Pending(not_released={brain: text.removeprefix(f"{brain}: ") for brain, text in left_out.items()})
    stages = (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX)
    for brain in Dataset(settings.data, settings.experiments.dataset).released():
        try:
            if not all(stage.is_current(settings, brain) for stage in stages):
                SECTION_SCANS.require_confirmation(settings, brain)
                pending.inputs[brain] = inputs_of_brain(settings, brain)
        except (CytonetError, OSError) as error:
            pending.faults[brain] = str(error)
        except Exception as error:  # A bug that one brain meets is no reason to leave out all others.
            _log.exception("sub-%s cannot be examined", brain)
            pending.faults[brain] = f"{type(error).__name__}: {error}"
    pending.faults.update({brain: str(fault_of(settings, loss)) for brain, loss in vanished_brains(settings).items()})
    return pending


def inputs_of_brain(settings: Settings, brain: str) -> str:
    """Return a digest of the files, the settings and the reference that a brain is ingested from.

    No result of the brain itself is part of it, unlike of what makes its stages current: it stays the same from the
    moment in which a run is requested until the run has ended. The store is part of it: in another one, nothing has
    been tried yet.
    """
    content = [
        str(settings.store),
        SECTION_SCANS.inputs(settings, brain),
        digest_left_in(REFERENCE_SPACE.folder(settings)),
        settings.experiments.dataset.model_dump(mode="json"),
        *(stage.code_version for stage in (SECTION_SCANS, COLIN27_TRANSFORMS, PATCH_INDEX)),
    ]
    return digest_of(content)


def encoders_to_train(settings: Settings) -> Pending:
    """Find encoders of the experiments file that would see something else now, with the version they would get.

    An encoder for which there is nothing to train on, or whose version is trained and failed its check, is left out and
    named with the reason: the same training would end the same way.
    """
    from cytonet_pipeline.lineage import resolve_training_set

    store = store_of(settings)
    pending = Pending()
    for name, block in settings.experiments.encoders.items():
        if block.retired:
            continue
        try:
            version = resolve_training_set(name, settings, store)[0].version
            ENCODER.require_sound(settings, name, version)
            in_use = store.current_version(name)
        except CytonetError as error:
            pending.faults[name] = str(error)
            continue
        if version != in_use:
            waits = reason_not_to_train(settings, name)
            if waits:
                pending.faults[name] = waits
                continue
            pending.inputs[name] = version
    return pending
