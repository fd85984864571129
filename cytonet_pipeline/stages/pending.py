"""What the store does not have yet: brains to ingest and encoders to train.

Both functions compare the data set and the settings with the store, whenever they are asked: what happened between two
calls, or while a run was in progress, is not lost. The sensor `new_brains` and the schedule `retrain` are thin wrappers
around them.
"""

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from cytonet_pipeline.errors import CytonetError
from cytonet_pipeline.settings import Settings
from cytonet_pipeline.stages.gate import held_back
from cytonet_pipeline.stages.stage import store_of
from cytonet_pipeline.stages.training import ENCODER
from cytonet_pipeline.stages.waiting import fault_of, reason_not_to_train, settle_returned, vanished_brains
from cytonet_pipeline.stages.watching import Watch
from cytonet_pipeline.store import Store

if TYPE_CHECKING:
    from cytonet_pipeline.stages.retraining import Change


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
    writing : dict
        By brain that has not been quiet for long enough, when it will be taken.
    changes : dict
        By encoder that has been trained and would see something else now, what.
    """

    inputs: dict[str, str] = field(default_factory=dict)
    faults: dict[str, str] = field(default_factory=dict)
    not_released: dict[str, str] = field(default_factory=dict)
    writing: dict[str, str] = field(default_factory=dict)
    changes: dict[str, "Change"] = field(default_factory=dict)

    @property
    def left_out(self) -> dict[str, str]:
        """The reasons of all that is not to be computed now, by name."""
        return self.not_released | self.writing | self.faults


def brains_to_ingest(settings: Settings, watch: Watch | None = None) -> Pending:
    """Find released brains of which a result is missing or was made from other inputs.

    A brain that cannot be examined is named with the reason and does not keep the others from being found; so is one
    that waits for confirmation, was forgotten, or has vanished.

    Parameters
    ----------
    watch : Watch, optional
        What earlier calls found, for a call that must not take long: it is brought up to date. Without it every file
        of every brain is looked at.

    Raises
    ------
    ConfigurationError
        The data set cannot be read.
    """
    from cytonet_pipeline.lineage import brains_left_out
    from cytonet_pipeline.lineage.members import brains_in

    settle_returned(settings)
    found = Watch().look(settings, math.inf) if watch is None else watch.look(settings)
    store = store_of(settings)
    left_out = brains_left_out(settings, brains_in(store))
    pending = Pending(not_released={brain: text.removeprefix(f"{brain}: ") for brain, text in left_out.items()})
    places = {"pending": pending.inputs, "faulty": pending.faults, "writing": pending.writing}
    for brain, finding in found.items():
        if finding.answer in places:
            places[finding.answer][brain] = finding.text
    pending.faults.update({brain: str(fault_of(settings, loss)) for brain, loss in vanished_brains(settings).items()})
    for brain in pending.faults.keys() & pending.not_released.keys():
        del pending.not_released[brain]  # The fault says so, too.
    return pending


def encoders_to_train(settings: Settings) -> Pending:
    """Find encoders of the experiments file that would see something else now, with the version they would get.

    Left out and named with the reason is an encoder for which there is nothing to train on, whose version is trained
    and failed its check or is held back by the gate (the same training would end the same way), and one of whose
    training patches too few have changed.
    """
    store = store_of(settings)
    pending = Pending()
    for name, block in settings.experiments.encoders.items():
        if not block.retired:
            try:
                _compare_encoder(name, settings, store, pending)
            except CytonetError as error:
                pending.faults[name] = str(error)
    return pending


def _compare_encoder(name: str, settings: Settings, store: Store, pending: Pending) -> None:
    from cytonet_pipeline.lineage import read_training_set, resolve_training_set
    from cytonet_pipeline.stages.retraining import change_between

    now, _ = resolve_training_set(name, settings, store)
    ENCODER.require_sound(settings, name, now.version)
    in_use = store.current_version(name)
    if now.version == in_use:
        return
    held = held_back(store, name, now.version)
    waits = reason_not_to_train(settings, name) or ("" if held is None else held.text)
    if waits:
        pending.faults[name] = waits
        return
    if in_use is not None:
        change = change_between(read_training_set(store, in_use), now, store)
        pending.changes[name] = change
        smallest = settings.experiments.retrain.smallest_change
        if change.of_data_alone and change.share < smallest:
            pending.faults[name] = (
                f"too little has changed: {change.share:.2%} of its training patches, less than {smallest:.2%} "
                f"(retrain: smallest_change); to train it all the same: cytonet run --encoders {name}\n{change.text}"
            )
            return
    pending.inputs[name] = now.version
