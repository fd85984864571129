"""Where things lie: the environment variables `CYTONET_*`, as one typed object. Nothing is read at import."""

import os
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, Self
from zoneinfo import ZoneInfo

from cytonet_pipeline.errors import ConfigurationError
from cytonet_pipeline.names import describe_known
from cytonet_pipeline.settings.encoder_block import EncoderBlock
from cytonet_pipeline.settings.experiments import Experiments
from cytonet_pipeline.settings.project import project_file, project_folder
from cytonet_pipeline.settings.reading import read_experiments
from cytonet_pipeline.settings.strict import Strict


class Settings(Strict):
    """Where things lie, and what to do with them."""

    data: Path
    reference: Path
    store: Path
    experiments_file: Path
    cluster: str = "local"
    timezone: str = "UTC"

    @classmethod
    def from_environment(cls, environment: Mapping[str, str] | None = None) -> "Settings":
        """Read the `CYTONET_*` variables; defaults lie in the project folder."""
        env = os.environ if environment is None else environment

        def path_of(name: str, default: Path) -> Path:
            return Path(env.get(name) or default).expanduser().absolute()

        project = project_folder()

        return cls(
            data=path_of("CYTONET_DATA", project / "demo" / "brains"),
            reference=path_of("CYTONET_REFERENCE", project / "demo" / "tpl-MNIColin27"),
            store=path_of("CYTONET_STORE", project / "store"),
            experiments_file=path_of("CYTONET_EXPERIMENTS", project_file("experiments/demo.yaml")),
            cluster=env.get("CYTONET_CLUSTER") or "local",
            timezone=env.get("CYTONET_TIMEZONE") or "UTC",
        )

    def environment(self) -> dict[str, str]:
        """Return the variables that make a child process see the same settings."""
        return {
            "CYTONET_DATA": str(self.data),
            "CYTONET_REFERENCE": str(self.reference),
            "CYTONET_STORE": str(self.store),
            "CYTONET_EXPERIMENTS": str(self.experiments_file),
            "CYTONET_CLUSTER": self.cluster,
            "CYTONET_TIMEZONE": self.timezone,
        }

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return these settings with other values, which are checked; the experiments file is read anew.

        pydantic's own copy would keep what was read from the former file.
        """
        return type(self)(**{**self.model_dump(), **(update or {})})

    @cached_property
    def experiments(self) -> Experiments:
        """The experiments file that is acted on."""
        return read_experiments(self.experiments_file)

    def encoder(self, name: str) -> EncoderBlock:
        """Return an encoder of the experiments file.

        Raises
        ------
        ConfigurationError
            The file has no such encoder.
        """
        try:
            return self.experiments.encoders[name]
        except KeyError:
            raise ConfigurationError(
                f"{self.experiments_file}: no encoder {name!r}; {describe_known(name, self.experiments.encoders)}.",
                to_fix="set CYTONET_EXPERIMENTS to the file that has it",
            ) from None

    def known_timezone(self) -> str:
        """Return the time zone of the schedule's clock.

        Raises
        ------
        ConfigurationError
            This machine knows no zone of that name.
        """
        try:
            ZoneInfo(self.timezone)
        except (KeyError, ValueError, OSError):
            raise ConfigurationError(
                f"CYTONET_TIMEZONE={self.timezone}: no such time zone.",
                to_fix="set it to a name of the IANA database such as Europe/Berlin, or unset it for UTC",
            ) from None
        return self.timezone

    def held_out(self, encoder: str) -> str:
        """Return the name of an encoder's unseen brain."""
        return self.encoder(encoder).held_out or self.experiments.dataset.held_out
