"""``python -m benchmarks.apps.enqueue MODULE COUNT``: hand a run's events to a peer, before its worker starts."""

from __future__ import annotations

import importlib
import sys

from benchmarks.work import be_quiet, event_texts

if __name__ == "__main__":
    be_quiet()
    module, count = sys.argv[1:]
    importlib.import_module(f"benchmarks.apps.{module}").enqueue(event_texts(int(count)))
