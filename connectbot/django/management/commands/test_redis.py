"""``manage.py test_redis``: does everything that this site does with Redis work?"""

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from connectbot.django.selftest import COMPONENTS, Finding, Selftest
from connectbot.django.site import site_settings
from connectbot.errors import SettingsError
from connectbot.integration import redis_integration

ALL = "all"


class Command(BaseCommand):
    """Tries the components, tells what it saw, and fails when one does not work."""

    help = "Try out for real what this site does with Redis. Exit status 0 only if all of it works."
    requires_system_checks: tuple[str, ...] = ()  # they would be in the way of finding out what is wrong

    def add_arguments(self, parser: ArgumentParser) -> None:
        """v21's options."""
        parser.add_argument("--component", choices=[ALL, *COMPONENTS], default=ALL, help="What to try (default: all).")
        parser.add_argument(
            "--user-id", type=int, default=1, help="On whose behalf; nothing of the user's is changed (default: 1)."
        )

    def handle(self, *, component: str, user_id: int, **_options: Any) -> None:
        """Raises `CommandError` (exit status 1) naming what does not work."""
        components = list(COMPONENTS) if component == ALL else [component]
        try:
            selftest = Selftest(site_settings(), redis_integration, user_id=user_id)
        except SettingsError as error:
            raise CommandError(f"{error}: correct it in the environment or in .env") from error
        broken = [finding for finding in map(self._shown, selftest.findings(components)) if not finding.works]
        for remedy in dict.fromkeys(finding.remedy for finding in broken):
            self.stdout.write(f"What to do: {remedy}.")
        if broken:
            names = ", ".join(finding.component for finding in broken)
            raise CommandError(f"{len(broken)} of {len(components)} components do not work: {names}")

    def _shown(self, finding: Finding) -> Finding:
        verdict = self.style.SUCCESS("works ") if finding.works else self.style.ERROR("BROKEN")
        self.stdout.write(f"{verdict} {finding.component:<10}{finding.saw}")
        return finding
