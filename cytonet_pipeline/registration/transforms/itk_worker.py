"""Asks ITK what is in a file, in a process of its own: a damaged file can crash ITK, and must not crash the pipeline.

Run as a script by `itk_guard`. One JSON object per line: `{"read": "transform" | "image", "path": …}` on standard
input, the answer on standard output: `{"error": …}`, or what was asked for. Imports no part of the package, so that it
starts fast.
"""

import json
import os
import resource
import sys
from typing import Any

import SimpleITK as sitk  # noqa: N813  (its own name for itself)

# A damaged header may ask for any amount of memory; sound files, uncompressed and converted, need less than this.
_LEAST_BYTES = 4 << 30
_BYTES_PER_BYTE = 50


def read_transform(path: str) -> dict[str, Any]:
    """Read an ITK transform to the end."""
    sitk.ReadTransform(path)
    return {}


def read_image(path: str) -> dict[str, Any]:
    """Read the place of an image by ITK's rule, in LPS mm."""
    reader = sitk.ImageFileReader()
    reader.SetFileName(path)
    reader.ReadImageInformation()
    return {
        "origin": list(reader.GetOrigin()),
        "spacing": list(reader.GetSpacing()),
        "direction": list(reader.GetDirection()),
    }


READERS = {"transform": read_transform, "image": read_image}


def answer(request: dict[str, str]) -> dict[str, Any]:
    """Answer one request; what ITK raises becomes the answer's `error`."""
    try:
        bytes_ = _LEAST_BYTES + _BYTES_PER_BYTE * os.stat(request["path"]).st_size
        hard = resource.getrlimit(resource.RLIMIT_AS)[1]
        resource.setrlimit(resource.RLIMIT_AS, (bytes_ if hard == resource.RLIM_INFINITY else min(bytes_, hard), hard))
        return READERS[request["read"]](request["path"])
    except MemoryError:
        return {"error": "it asks for more memory than a file of its size needs"}
    except Exception as error:
        return {"error": str(error)}


def main() -> None:
    """Answer until standard input ends."""
    # Under a shortage of memory this process is to be killed, and not the one that asks.
    try:
        with open("/proc/self/oom_score_adj", "w") as stream:
            stream.write("1000")
    except OSError:
        pass
    # ITK and HDF5 write to the terminal: the answers have a descriptor of their own.
    answers = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    for line in sys.stdin:
        print(json.dumps(answer(json.loads(line))), file=answers, flush=True)


if __name__ == "__main__":
    main()
