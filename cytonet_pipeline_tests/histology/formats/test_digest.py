"""A scan's digest changes when the scan does."""

import numpy as np

from cytonet_pipeline.histology import scan_digest


def test_the_digest_follows_the_content_and_not_the_name(section_picture, write_scan):
    path = write_scan(section_picture, tile=(64, 64), compression="deflate")
    copy = path.with_name("copy.tif")
    copy.write_bytes(path.read_bytes())
    assert scan_digest(path) == scan_digest(copy)

    changed = section_picture.copy()
    changed[150, 200] += 1

    assert scan_digest(write_scan(changed, tile=(64, 64), compression="deflate")) != scan_digest(path)


def test_a_change_at_either_end_or_in_the_middle_of_one_huge_strip_is_seen(write_scan, monkeypatch):
    monkeypatch.setattr("cytonet_pipeline.histology.formats.digest._SMALL_BYTES", 0)
    pixels = np.random.default_rng(0).integers(0, 255, (3000, 1000), dtype=np.uint8)
    digests = {scan_digest(write_scan(pixels, rowsperstrip=3000))}
    for row in (0, 1500, 2999):
        changed = pixels.copy()
        changed[row, 500] ^= 1
        digests.add(scan_digest(write_scan(changed, rowsperstrip=3000)))

    assert len(digests) == 4


def test_of_a_large_scan_the_places_of_all_tiles_count(write_scan, monkeypatch):
    """Sampled tiles do not reveal that another tile was rewritten; its length in the directory does."""
    monkeypatch.setattr("cytonet_pipeline.histology.formats.digest._SMALL_BYTES", 0)
    monkeypatch.setattr("cytonet_pipeline.histology.formats.digest._SAMPLED_CHUNKS", 2)
    pixels = np.zeros((640, 640), np.uint8)
    before = scan_digest(write_scan(pixels, tile=(64, 64), compression="deflate"))
    pixels[300:320, 300:320] = np.random.default_rng(0).integers(0, 255, (20, 20))

    assert scan_digest(write_scan(pixels, tile=(64, 64), compression="deflate")) != before
