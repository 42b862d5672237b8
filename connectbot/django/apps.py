"""The Django app ``connectbot.django``."""

from __future__ import annotations

from typing import Any, Final

from django.apps import AppConfig
from django.core.checks import Tags, register
from django.core.signals import setting_changed

SETTINGS: Final = ("CACHES", "REDIS_URL", "JAVA_SERVICE_URL")
"""What `site_settings` reads of a site."""


class ConnectBotConfig(AppConfig):
    """Brings the command ``test_redis`` and the check that site and worker use the same Redis alike."""

    name = "connectbot.django"
    label = "connectbot"
    verbose_name = "ConnectBot"

    def ready(self) -> None:
        """Register the check, and hear what a test overrides; nothing is opened here."""
        from connectbot.django.checks import check_same_cache

        register(check_same_cache, Tags.caches)
        setting_changed.connect(reopen_site)


def reopen_site(*, setting: str, **_told: Any) -> None:
    """Let the next call open the site anew, with what a test has set (``override_settings``)."""
    if setting in SETTINGS:
        from connectbot.integration.site import default_site

        default_site.close()
