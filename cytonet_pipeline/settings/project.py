"""The project folder, and the files that come with the package.

Experiments, deployment files, benchmarks and the files that Dagster reads are package data in `project_files/`. In
a checkout these are links to its top; elsewhere a project may have files of its own in their place.
"""

from pathlib import Path

import cytonet_pipeline

SHIPPED = Path(cytonet_pipeline.__file__).absolute().parent / "project_files"
# What a folder must hold to be taken for a checkout of this project.
_MARKS = ("cytonet_pipeline/__init__.py", "experiments", "workspace.yaml")


def project_folder() -> Path:
    """Return the checkout that the current directory lies in, else the current directory.

    Defaults of the settings, the store and Dagster's instance lie below it.
    """
    here = Path.cwd()
    checkouts = (folder for folder in (here, *here.parents) if all((folder / mark).exists() for mark in _MARKS))
    return next(checkouts, here)


def project_file(name: str) -> Path:
    """Return the project folder's own file or folder of this name, else the one that comes with the package."""
    own = project_folder() / name
    return own if own.exists() else SHIPPED / name
