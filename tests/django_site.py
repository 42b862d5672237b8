"""The example site, as a copy of its own in processes of their own."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Self

from connectbot.embedded import HOST, free_port
from connectbot.settings import Settings
from tests.support import ROOT, environment, wait_until

EXAMPLE = ROOT / "examples" / "django_site"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "db.sqlite3", ".env")


class Site:
    """A copy of examples/django_site in ``directory``, set up by a ``.env`` file as a user would.

    ``variables`` are the lines of that file. ``settings_module`` is what DJANGO_SETTINGS_MODULE names.
    """

    def __init__(
        self, directory: Path, variables: Mapping[str, object], *, settings_module: str = "config.settings"
    ) -> None:
        self.directory = directory
        self._settings_module = settings_module
        shutil.copytree(EXAMPLE, directory, ignore=LEFT_OUT)
        lines = [f"{name}={value}\n" for name, value in variables.items()]
        (directory / ".env").write_text("".join(lines))

    @classmethod
    def on(cls, redis_url: str, directory: Path, **variables: object) -> Self:
        """A site on that Redis, with further lines of the .env file."""
        return cls(directory, {"REDIS_URL": redis_url, "JAVA_SERVICE_URL": "http://localhost:8080", **variables})

    def add_settings(self, name: str, text: str) -> None:
        """Use another module of settings, ``config.{name}``, from now on."""
        (self.directory / "config" / f"{name}.py").write_text(text)
        self._settings_module = f"config.{name}"

    def manage(self, *arguments: str, deadline_seconds: float = 60) -> subprocess.CompletedProcess[str]:
        """Run ``manage.py``, warnings being errors. Its exit status is the caller's to judge; its log is kept."""
        done = subprocess.run(
            [sys.executable, "-W", "error", "manage.py", *arguments],
            cwd=self.directory,
            env=self._environment(),
            capture_output=True,
            text=True,
            timeout=deadline_seconds,
        )
        with (self.directory / "manage.log").open("a") as log:
            log.write(done.stderr)
        return done

    def shell(self, code: str) -> str:
        """What a piece of code prints under ``manage.py shell``."""
        done = self.manage("shell", "--no-imports", "-c", code)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def start(self, code: str) -> subprocess.Popen[str]:
        """Run a piece of code under ``manage.py shell`` beside the test."""
        return subprocess.Popen(
            [sys.executable, "-W", "error", "manage.py", "shell", "--no-imports", "-c", code],
            cwd=self.directory,
            env=self._environment(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address of the site, served by ``manage.py runserver`` meanwhile."""
        address = f"{HOST}:{free_port()}"
        log = self.directory / "runserver.log"
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-W", "error", "manage.py", "runserver", "--noreload", address],
                cwd=self.directory,
                env=self._environment(),
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            wait_until(lambda: _answers(address, process), deadline_seconds=30, what=f"the site; see {log}")
            yield f"http://{address}"
        finally:
            process.terminate()
            process.wait()

    def _environment(self) -> dict[str, str]:
        ours = environment(Settings())  # by name, so that nothing of this process gets before the .env file
        others = {name: value for name, value in os.environ.items() if name not in ours}
        return {
            **others,
            "DJANGO_SETTINGS_MODULE": self._settings_module,
            "PYTHONPATH": str(ROOT),
            "PYTHONDONTWRITEBYTECODE": "1",
        }


def _answers(address: str, process: subprocess.Popen[bytes]) -> bool:
    assert process.poll() is None, "the site ended before it answered"
    try:
        urllib.request.urlopen(f"http://{address}/there-is-no-such-page/", timeout=10).close()
    except urllib.error.HTTPError as error:
        error.close()
        return True
    except OSError:
        return False
    return True
