"""Reading experiments files: one that is acted on, or all of a folder."""

from pathlib import Path

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.settings.encoder_block import EncoderBlock
from cytonet_pipeline.settings.experiments import Experiments
from cytonet_pipeline.settings.strict import read_strictly

# Files with these suffixes in one folder are read together: names of encoders are unique among them.
_SUFFIXES = (".yaml", ".yml")


def read_experiments(path: Path) -> Experiments:
    """Read and check an experiments file.

    Raises
    ------
    ConfigurationError
        It is missing, not YAML, or has a misspelt key or an impossible value; the message names each.
    """
    return read_strictly(
        path,
        Experiments,
        if_unreadable="set CYTONET_EXPERIMENTS to an experiments file",
        if_faulty="docs/experiments.md lists every key; compare with experiments/demo.yaml",
    )


def read_all_experiments(path: Path) -> dict[str, tuple[Path, EncoderBlock]]:
    """Return all encoders of an experiments file and of those beside it, by name, each with its file.

    Raises
    ------
    ConfigurationError
        A file in the folder is not an experiments file or faulty, or a name is used twice.
    """
    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(
            f"{path}: not named as an experiments file.", to_fix=f"let its name end in {' or '.join(_SUFFIXES)}"
        )
    beside = [other for suffix in _SUFFIXES for other in path.parent.glob(f"*{suffix}") if other != path]
    encoders: dict[str, tuple[Path, EncoderBlock]] = {}
    for each in sorted([path, *beside]):
        try:
            experiments = read_experiments(each)
        except ConfigurationError as error:
            raise error if each == path else _neighbour_error(error, path) from error
        for name, block in experiments.encoders.items():
            if name in encoders:
                raise ConfigurationError(
                    f"{each}: encoder {name} is also in {encoders[name][0]}.",
                    to_fix="give one of them another name; names are unique across experiments files",
                )
            encoders[name] = (each, block)
    return encoders


def _neighbour_error(error: ConfigurationError, path: Path) -> ConfigurationError:
    return ConfigurationError(
        error.what,
        looked_for=f"every {' and '.join(f'*{suffix}' for suffix in _SUFFIXES)} beside {path}",
        to_fix=f"correct it, or move it to another folder if it is not an experiments file; {error.to_fix}",
    )
