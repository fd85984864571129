"""Which training sets and encoders are current: those whose version is what the store would give now."""

from collections.abc import Callable

from cytonet_pipeline.settings import Settings
from cytonet_pipeline.store import Store


def training_set_is_current(settings: Settings, encoder: str | None) -> bool:
    """Whether the encoder's wanted version is the one that today's brains and settings give."""
    from cytonet_pipeline.errors import CytonetError
    from cytonet_pipeline.lineage import resolve_training_set

    assert encoder is not None
    store = Store(settings.store)
    version = store.wanted_version(encoder)
    if version is None or not (store.training_set(version) / "training_set.json").exists():
        return False
    try:
        return resolve_training_set(encoder, settings, store)[0].version == version
    except CytonetError:
        return False


def encoder_is_current(settings: Settings, encoder: str | None) -> bool:
    """Whether the current encoder is the wanted one, and whole."""
    assert encoder is not None
    store = Store(settings.store)
    version = store.current_version(encoder)
    return (
        version is not None
        and version == store.wanted_version(encoder)
        and (store.encoder(encoder, version) / "encoder.json").exists()
    )


CURRENT: dict[str, Callable[[Settings, str | None], bool]] = {
    "training_set": training_set_is_current,
    "encoder": encoder_is_current,
}
