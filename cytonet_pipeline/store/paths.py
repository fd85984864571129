"""Where things lie in the store. The layout is a contract: other programs read it.

Only paths are made here. What stands behind them is written and read by the room that it belongs to.
"""

from dataclasses import dataclass
from pathlib import Path

from cytonet_pipeline.errors import StoreError
from cytonet_pipeline.store.tables import read_record, write_pointer


@dataclass(frozen=True)
class Store:
    """The folder that holds every result (`CYTONET_STORE`)."""

    root: Path

    # -- reference and brains ---------------------------------------------------------------------------------------
    def reference_space(self) -> Path:
        """Return the folder of the checked reference space: its record and picture."""
        return self.root / "reference_space"

    def section_scans(self, brain: str) -> Path:
        """Return the folder with a brain's `sections.parquet` and contact sheet."""
        return self.root / "section_scans" / f"brain={brain}"

    def colin27_transforms(self, brain: str) -> Path:
        """Return the folder with a brain's `chain.json`, `quality.json` and picture."""
        return self.root / "colin27_transforms" / f"brain={brain}"

    def patch_index(self, brain: str) -> Path:
        """Return the folder with a brain's `part-*.parquet`."""
        return self.root / "patch_index" / f"brain={brain}"

    def indexed_brains(self) -> list[str]:
        """Return the brains with a patch index, sorted; of a brain that failed there is a folder without parts."""
        parts = (self.root / "patch_index").glob("brain=*/part-*.parquet")
        return sorted({part.parent.name.partition("=")[2] for part in parts})

    # -- encoders ---------------------------------------------------------------------------------------------------
    def training_set(self, version: str) -> Path:
        """Return the folder with `training_set.json` and `sections.parquet`."""
        return self.root / "training_sets" / version

    def training_sets(self) -> list[str]:
        """Return all versions with a training set, sorted."""
        return _folder_names(self.root / "training_sets")

    def encoder(self, encoder: str, version: str) -> Path:
        """Return the folder of one trained version of an encoder."""
        return self.root / "encoders" / encoder / version

    def encoder_versions(self, encoder: str) -> list[str]:
        """Return all versions of an encoder in the store, sorted by name."""
        return _folder_names(self.root / "encoders" / encoder)

    def encoders(self) -> list[str]:
        """Return all encoders in the store, sorted."""
        return _folder_names(self.root / "encoders")

    def wanted_version(self, encoder: str) -> str | None:
        """Return the version that the last `training_set` of this encoder decided on; None before the first."""
        path = self.root / "training_sets" / f"{encoder}.json"
        return str(read_record(path)["version"]) if path.exists() else None

    def point_wanted(self, encoder: str, version: str) -> None:
        """Record which training set an encoder is to be trained on."""
        write_pointer(self.root / "training_sets" / f"{encoder}.json", {"encoder": encoder, "version": version})

    def current_version(self, encoder: str) -> str | None:
        """Return the version of the encoder that evaluation and users take; None before the first training."""
        path = self.root / "encoders" / encoder / "current.json"
        return str(read_record(path)["version"]) if path.exists() else None

    def point_current(self, encoder: str, version: str) -> None:
        """Make a trained version the current one."""
        write_pointer(self.root / "encoders" / encoder / "current.json", {"encoder": encoder, "version": version})

    def current_encoder(self, encoder: str) -> Path:
        """Return the folder of the current version.

        Raises
        ------
        StoreError
            The encoder has not been trained yet.
        """
        version = self.current_version(encoder)
        if version is None:
            raise StoreError(
                f"encoder {encoder}: not trained yet.",
                looked_for=str(self.root / "encoders" / encoder / "current.json"),
                to_fix=f"cytonet run --encoders {encoder}",
            )
        return self.encoder(encoder, version)

    # -- evaluation -------------------------------------------------------------------------------------------------
    def patch_embeddings(self, encoder: str, version: str, brain: str | None = None) -> Path:
        """Return the folder of an encoder's features; of one brain if named."""
        folder = self.root / "patch_embeddings" / encoder / version
        return folder if brain is None else folder / f"brain={brain}"

    def linear_probes(self, encoder: str, version: str, protocol: str | None = None) -> Path:
        """Return the folder of an encoder's probes; of one protocol if named."""
        folder = self.root / "linear_probes" / encoder / version
        return folder if protocol is None else folder / protocol

    def umap(self, encoder: str, version: str) -> Path:
        """Return the folder with coordinates, plots and the surface map."""
        return self.root / "umap" / encoder / version

    def area_maps(self, encoder: str, version: str) -> Path:
        """Return the folder with predicted label volumes and overlays."""
        return self.root / "area_maps" / encoder / version

    def metrics(self) -> Path:
        """Return the folder of the table of results."""
        return self.root / "metrics"


# Below these, results are two levels deep; below their parts, such as one protocol of the probes, three.
EVALUATIONS = ("patch_embeddings", "linear_probes", "umap", "area_maps")


def result_folders(store: Store) -> list[Path]:
    """Return every folder that holds a result or a part of one, parts before the whole; encoders only if trained."""
    patterns = ("reference_space/", "section_scans/brain=*/", "colin27_transforms/brain=*/", "patch_index/brain=*/")
    evaluations = (f"{kind}/*/*/{part}" for kind in EVALUATIONS for part in ("*/", ""))
    found = [path for pattern in (*patterns, "training_sets/*/", *evaluations, "metrics/") for path in
             sorted(store.root.glob(pattern))]  # fmt: skip
    # Either of them may have got lost.
    trained = sorted(
        {path.parent for name in ("encoder", "inputs") for path in store.root.glob(f"encoders/*/*/{name}.json")}
    )
    return [path for path in (*found, *trained) if not any(part.startswith(".") for part in path.parts[-3:])]


def _folder_names(folder: Path) -> list[str]:
    if not folder.exists():
        return []
    return sorted(p.name for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
