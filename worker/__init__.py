"""How the work is run: the Celery app, its schedule, and the consumer of events."""

from worker.app import app

__all__ = ["app"]
