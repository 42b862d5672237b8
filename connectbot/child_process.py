"""Processes that end with the one that started them, however that ends.

A server or a worker left behind does harm: it holds its port, or keeps connecting to one that somebody else may use
by then.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence

# Linux sends the signal when the parent is gone, even by SIGKILL (PR_SET_PDEATHSIG is 1). The process keeps its id,
# and the wish, when it becomes the program.
_BEFORE = """
import os, signal, sys
try:
    import ctypes
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)
except (ImportError, OSError, AttributeError):
    pass
if os.getppid() != int(sys.argv[1]):
    sys.exit("the parent is gone")
os.execv(sys.argv[2], sys.argv[2:])
"""


def dying_with_us(command: Sequence[str]) -> list[str]:
    """A command that starts ``command`` (its program by full path) so that it is killed when this process ends.

    Only on Linux, and only from the main thread: Linux counts the end of the *thread* that started a process as the
    end of its parent. Elsewhere it is ``command`` itself.
    """
    if sys.platform == "linux" and threading.current_thread() is threading.main_thread():
        return [sys.executable, "-I", "-S", "-c", _BEFORE, str(os.getpid()), *command]
    return list(command)
