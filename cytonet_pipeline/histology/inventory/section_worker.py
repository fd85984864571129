"""Examines sections on request, in a process of its own: see `section_guard`, which runs this as a module.

One request per line on standard input, on standard output the files as they are opened, then the findings.
"""

import contextlib
import json
import os
import sys
from typing import Any

from cytonet_pipeline.guard import BUSY_WITH
from cytonet_pipeline.histology.inventory.section import examine_section
from cytonet_pipeline.histology.inventory.section_guard import answer_of, section_of


def main() -> None:
    """Answer requests until standard input ends."""
    # Under a shortage of memory this process is to be killed, and not the one that asks.
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")
    # Native libraries write to the terminal: the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)

    def tell(line: dict[str, Any]) -> None:
        print(json.dumps(line), file=answers, flush=True)

    for line in sys.stdin:
        section, root, block = section_of(json.loads(line))
        tell(answer_of(examine_section(section, root, block, lambda what: tell({BUSY_WITH: what}))))


if __name__ == "__main__":
    main()
