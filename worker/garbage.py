"""Python's garbage collector, kept from looking again and again at what a worker has loaded to stay.

Work on a batch makes objects by the thousand, which sets the collector off; and each time that it looks at everything,
all of Celery and its libraries is looked at in vain: a third of the time that an event takes.
"""

from __future__ import annotations

import gc
from typing import Any

from celery.signals import celeryd_after_setup


@celeryd_after_setup.connect  # before the pool is forked: what no collector touches, the processes go on sharing
def leave_alone_what_is_there(**_: Any) -> None:
    """Whatever the process holds by now is out of the collector's sight (``gc.freeze``)."""
    gc.collect()
    gc.freeze()
