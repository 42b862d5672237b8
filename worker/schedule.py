"""What celery-beat does when. Add a schedule by adding an entry; redbeat keeps the last runs in Redis."""

from __future__ import annotations

from typing import Any, Final

from tasks.menus import WARM_INTERVAL_SECONDS

SCHEDULE: Final[dict[str, dict[str, Any]]] = {
    # A tick that no worker has taken for long is dropped: running it twice would help nobody. That is judged by two
    # clocks, beat's and the worker's, which may differ by some seconds.
    "temp-data-expire": {"task": "temp_data.expire", "schedule": 5.0, "options": {"expires": 60.0}},
    "menus-warm": {
        "task": "menus.warm",
        "schedule": WARM_INTERVAL_SECONDS,
        "kwargs": {"scope": "expiring"},
        "options": {"expires": WARM_INTERVAL_SECONDS},
    },
    "events-upkeep": {"task": "events.upkeep", "schedule": 30.0, "options": {"expires": 30.0}},
}
