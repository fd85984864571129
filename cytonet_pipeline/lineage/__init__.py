"""Lineage: which sections, transforms and patches an encoder may see, has seen, and would see now."""

from cytonet_pipeline.lineage.affected import Affected, affected_by, sections_changed_under
from cytonet_pipeline.lineage.ancestry import ancestors_of
from cytonet_pipeline.lineage.compare import compare, would_change
from cytonet_pipeline.lineage.examination import examine_members
from cytonet_pipeline.lineage.few_labels import repetition
from cytonet_pipeline.lineage.members import brains_left_out, new_name_of, stored_brains_left_out
from cytonet_pipeline.lineage.nearby import nearest_training_sections
from cytonet_pipeline.lineage.prov import as_prov
from cytonet_pipeline.lineage.queries import (
    Use,
    encoders_of,
    find_brain,
    find_section,
    find_training_set,
    folder_of,
    learning_of,
    recorded_sections,
    sections_of,
    trained_versions,
)
from cytonet_pipeline.lineage.section_changes import happened_since
from cytonet_pipeline.lineage.training_set import (
    TrainingSet,
    read_training_set,
    resolve_training_set,
    write_training_set,
)

__all__ = [
    "Affected",
    "TrainingSet",
    "Use",
    "affected_by",
    "ancestors_of",
    "as_prov",
    "brains_left_out",
    "compare",
    "encoders_of",
    "examine_members",
    "find_brain",
    "find_section",
    "find_training_set",
    "folder_of",
    "happened_since",
    "learning_of",
    "nearest_training_sections",
    "new_name_of",
    "read_training_set",
    "recorded_sections",
    "repetition",
    "resolve_training_set",
    "sections_changed_under",
    "sections_of",
    "stored_brains_left_out",
    "trained_versions",
    "would_change",
    "write_training_set",
]
