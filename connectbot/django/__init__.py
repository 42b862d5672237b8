"""ConnectBot for a Django site: its cache and session settings, publishing after the commit, and ``test_redis``.

A site adds ``"connectbot.django"`` to INSTALLED_APPS. This package may be imported from the site's settings.py.
"""

from connectbot.django.commit import publish_on_commit
from connectbot.django.site import redis_settings, site_settings

__all__ = ["publish_on_commit", "redis_settings", "site_settings"]
