"""A small reference space with two bumpy hemispheres, gentle random fields, and the real data if available."""

from pathlib import Path

import nibabel
import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from cytonet_pipeline.registration import DisplacementField, ReferenceSpace
from cytonet_pipeline.registration.reference.meshes import Mesh
from cytonet_pipeline_tests.registration.real_brains import RealBrain, load_brains

LPS = np.array([-1.0, -1.0, 1.0])


@pytest.fixture(scope="session")
def reference_folder(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("reference") / "tpl-MNIColin27"
    folder.mkdir()
    write_reference(folder)
    return folder


@pytest.fixture(scope="session")
def reference(reference_folder) -> ReferenceSpace:
    return ReferenceSpace.load(reference_folder)


@pytest.fixture(scope="session")
def colin27(shared_data) -> ReferenceSpace:
    return ReferenceSpace.load(shared_data / "tpl-MNIColin27")


@pytest.fixture(scope="session")
def real(shared_data) -> dict[str, RealBrain]:
    """The real brains, by name."""
    return load_brains(shared_data)


@pytest.fixture
def gentle_field() -> DisplacementField:
    """A smooth displacement of 3 mm that vanishes at the border of its grid, as registration programs write it."""
    return random_field(seed=3, rms_mm=2.0)


def random_field(seed: int, rms_mm: float, spacing_mm: float = 6.0, n: int = 26) -> DisplacementField:
    random = np.random.default_rng(seed)
    values = np.stack([gaussian_filter(random.normal(size=(n, n, n)), 1.5) for _ in range(3)])
    values *= rms_mm / values.std()
    index = np.minimum(np.arange(n), n - 1 - np.arange(n))
    border = np.minimum.reduce(np.meshgrid(index, index, index, indexing="ij"))
    grid = np.diag([spacing_mm, spacing_mm, spacing_mm, 1.0])
    grid[:3, 3] = -spacing_mm * (n - 1) / 2
    return DisplacementField(values * np.clip(border / 4, 0, 1), grid)


def sphere(rounds: int) -> Mesh:
    """Return a unit sphere: an octahedron whose triangles are divided into four `rounds` times."""
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], dtype=float)
    faces = np.array([[x, y, z] if (x + y + z) % 2 == 0 else [x, z, y] for x in (0, 1) for y in (2, 3) for z in (4, 5)])
    for _ in range(rounds):
        corners = vertices[faces]
        middles = (corners + np.roll(corners, -1, axis=1)) / 2
        a, b, c = (corners[:, i] for i in range(3))
        ab, bc, ca = (middles[:, i] for i in range(3))
        triangles = np.concatenate([np.stack(t, axis=1) for t in ((a, ab, ca), (ab, b, bc), (ca, bc, c), (ab, bc, ca))])
        vertices, index = np.unique(triangles.reshape(-1, 3).round(9), axis=0, return_inverse=True)
        vertices /= np.linalg.norm(vertices, axis=1, keepdims=True)
        faces = index.reshape(-1, 3)
    return Mesh(vertices, faces).oriented_outward()


def bumpy(mesh: Mesh, radius_mm: float, centre_mm: tuple[float, float, float]) -> Mesh:
    x, y, z = mesh.vertices_mm.T
    bumps = 1 + 0.12 * np.sin(5 * x + 1) * np.cos(4 * y) + 0.1 * np.sin(6 * z + 2 * x)
    return Mesh(mesh.vertices_mm * (radius_mm * bumps)[:, None] + np.array(centre_mm), mesh.faces)


def write_reference(folder: Path) -> None:
    """Write two bumpy spheres with 3 mm of cortex: one area above and one below z = 0, a gap in front."""
    ball = sphere(4)
    centres = {"L": (-32.0, 0.0, 0.0), "R": (32.0, 0.0, 0.0)}
    rows = []
    affine = np.diag([2.0, 2.0, 2.0, 1.0])
    affine[:3, 3] = [-70, -40, -40]
    places = np.moveaxis(np.indices((71, 41, 41)), 0, -1) @ affine[:3, :3] + affine[:3, 3]
    atlas = np.zeros(places.shape[:3], dtype=np.int16)
    mask = np.zeros(places.shape[:3], dtype=np.uint8)
    for hemi, centre in centres.items():
        offset = 0 if hemi == "L" else 1000
        for kind, radius in (("pial", 25.0), ("white", 22.0), ("inflated", 30.0)):
            mesh = bumpy(ball, radius, centre)
            _write_surface(folder / f"tpl-MNIColin27_hemi-{hemi}_{kind}.surf.gii", mesh)
        radius = np.linalg.norm(places - np.array(centre), axis=-1)
        mask[radius < 31] = 1
        shell = radius < 31
        atlas[shell & (places[..., 2] >= 0)] = 1 + offset
        atlas[shell & (places[..., 2] < 0)] = 2 + offset
        atlas[shell & (places[..., 1] > 18)] = 3 + offset
        atlas[radius < 8] = 4 + offset
        for area, kind in ((1, "area"), (2, "area"), (3, "gap"), (4, "subcortical")):
            rows.append((area + offset, f"Label {area}", hemi, area, "#102030", kind))
    stem = "tpl-MNIColin27_res-01"
    nibabel.Nifti1Image(mask * 100, affine).to_filename(folder / f"{stem}_T1w.nii.gz")
    nibabel.Nifti1Image(mask, affine).to_filename(folder / f"{stem}_desc-brain_mask.nii.gz")
    nibabel.Nifti1Image(atlas, affine).to_filename(folder / "tpl-MNIColin27_atlas-Toy_dseg.nii.gz")
    lines = ["index\tname\themisphere\tarea\tcolor\tkind", *("\t".join(map(str, row)) for row in rows)]
    (folder / "tpl-MNIColin27_atlas-Toy_dseg.tsv").write_text("\n".join(lines) + "\n")
    (folder / "template_description.json").write_text('{"Name": "toy", "Synthetic": true}')


def _write_surface(path: Path, mesh: Mesh) -> None:
    arrays = [
        nibabel.gifti.GiftiDataArray(mesh.vertices_mm.astype(np.float32), intent="NIFTI_INTENT_POINTSET"),
        nibabel.gifti.GiftiDataArray(mesh.faces.astype(np.int32), intent="NIFTI_INTENT_TRIANGLE"),
    ]
    nibabel.save(nibabel.gifti.GiftiImage(darrays=arrays), path)
