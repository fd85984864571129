"""Reads scans on request, in a process of its own: a damaged file can crash a codec, and must not crash the pipeline.

Run as a module by `codec_guard`. One JSON object per line on standard input, `{"path": …, "pick": [series, page]}`; an
empty object on standard output when the scan was read, whatever came of it.
"""

import contextlib
import json
import sys

from cytonet_pipeline.dataset import Pick
from cytonet_pipeline.histology.scan import open_scan

_PICTURE_PX = 512


def main() -> None:
    """Answer requests until standard input ends."""
    for line in sys.stdin:
        request = json.loads(line)
        # What Python raises is raised again, and reported, by the process that asked.
        with contextlib.suppress(Exception), open_scan(request["path"], 1.0, pick=Pick(*request["pick"])) as scan:
            scan.verify()
            scan.thumbnail(_PICTURE_PX)
        print("{}", flush=True)


if __name__ == "__main__":
    main()
