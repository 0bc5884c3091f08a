"""What a process does with the memory that it has freed."""

from __future__ import annotations

import ctypes
import os
import sys

#: Of <malloc.h>: from what size on the kernel is asked, and it gets the heap's free end back; how
#: many heaps there are.
_MMAP_THRESHOLD, _TRIM_THRESHOLD, _ARENA_MAX = -3, -1, -8
KEPT_BYTES = 2**30
#: Set to 0, memory comes and goes as in any other program.
SWITCH = "LDCT_KEEP_MEMORY"


def keep_freed_memory() -> None:
    """Let the C library keep up to 1 GiB of what is freed for the next tensor of this process.

    Images between two layers are large: each would be fetched from the kernel, page by page and
    filled with zeros, and given back at once, which takes a third of the time of RED-CNN. All
    threads share one heap then, as the heaps that the C library has for other threads hold
    nothing so large. Does nothing where the C library is not glibc, and where SWITCH is off.
    """
    if sys.platform != "linux" or os.environ.get(SWITCH) == "0":
        return
    library = ctypes.CDLL(None)
    if hasattr(library, "gnu_get_libc_version"):
        library.mallopt(_MMAP_THRESHOLD, KEPT_BYTES)
        library.mallopt(_TRIM_THRESHOLD, KEPT_BYTES)
        library.mallopt(_ARENA_MAX, 1)
