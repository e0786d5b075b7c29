"""soak.py STEPS CYCLES: a guest that stays, from Python. After so many steps, and so many objects of each kind, the process
has the memory, the descriptors and the threads that it had before, and what lives on has the references that it had."""

import gc
import os
import re
import sys
import tempfile
import threading
import tracemalloc
from array import array
from pathlib import Path

import pente

sys.path.append(str(Path(__file__).parents[2] / "bindings/python/tests"))

from support import Affine, matrix, network, problem  # noqa: E402
from test_leaks import malloced  # noqa: E402


def resident():
    """Of the process's own memory, in kB: pages of files come and go as the kernel likes."""
    return int(re.search(r"Anonymous:\s+(\d+)", Path("/proc/self/smaps_rollup").read_text())[1])


def usage():
    gc.collect()
    return {
        "resident": resident(),
        "malloc": malloced(),
        "Python's blocks": sys.getallocatedblocks(),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": len(os.listdir("/proc/self/task")),
    }


def repeat(what, count, call, lasting=()):
    """Until memory has been flat for half of so many calls. At first caches fill; a leak never comes to rest."""
    call()
    references = [sys.getrefcount(thing) for thing in lasting]
    before, flat, tenth = usage(), 0, 0
    while flat < 5 or tenth < 10:
        for _ in range(count // 10):
            call()
        tenth += 1
        now = usage()
        grown = {name for name in now if now[name] > before[name] + SLACK.get(name, 0)}
        assert not grown or tenth <= 30, f"{what}: {before}, then {now}"
        before, flat = (now, 0) if grown else (before, flat + 1)
    assert [sys.getrefcount(thing) for thing in lasting] == references, f"{what}: references"
    print(f"{what}: {tenth * (count // 10)} times, {before}", flush=True)
