"""Lineage: which sections, transforms and patches an encoder may see, has seen, and would see now."""

from cytonet_pipeline.lineage.ancestry import ancestors_of
from cytonet_pipeline.lineage.compare import compare, would_change
from cytonet_pipeline.lineage.examination import examine_members
from cytonet_pipeline.lineage.members import brains_left_out, stored_brains_left_out
from cytonet_pipeline.lineage.queries import (
    Use,
    encoders_of,
    find_section,
    find_training_set,
    folder_of,
    learning_of,
    sections_of,
)
from cytonet_pipeline.lineage.section_changes import happened_since
from cytonet_pipeline.lineage.training_set import (
    TrainingSet,
    read_training_set,
    resolve_training_set,
    write_training_set,
)

__all__ = [
    "TrainingSet",
    "Use",
    "ancestors_of",
    "brains_left_out",
    "compare",
    "encoders_of",
    "examine_members",
    "find_section",
    "find_training_set",
    "folder_of",
    "happened_since",
    "learning_of",
    "read_training_set",
    "resolve_training_set",
    "sections_of",
    "stored_brains_left_out",
    "would_change",
    "write_training_set",
]
