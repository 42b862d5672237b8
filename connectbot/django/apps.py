"""The Django app ``connectbot.django``."""

from __future__ import annotations

from django.apps import AppConfig
from django.core.checks import Tags, register


class ConnectBotConfig(AppConfig):
    """Brings the command ``test_redis`` and the check that site and worker use the same Redis alike."""

    name = "connectbot.django"
    label = "connectbot"
    verbose_name = "ConnectBot"

    def ready(self) -> None:
        """Register the check; nothing is connected here."""
        from connectbot.django.checks import check_same_cache

        register(check_same_cache, Tags.caches)
