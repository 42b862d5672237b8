"""The service token that a call of the Java service shows (contract v21: ``Authorization: Service <token>``)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from connectbot.errors import SettingsError
from connectbot.java.answers import ANSWERS, Failed

_TOKEN: Final = re.compile(r"[\x21-\x7e]+")


class ServiceToken:
    """A token, or a file that holds one and may change at any time; the file wins."""

    def __init__(self, token: str, file: str) -> None:
        if token and not _TOKEN.fullmatch(token):
            raise SettingsError("JAVA_SERVICE_TOKEN must be visible ASCII characters without a space")
        self._given = token
        self._file = Path(file) if file else None
        self._read: tuple[object, str] = (None, "")

    def header(self) -> dict[str, str]:
        """The header that shows the token; none where none is set. Raises `Failed` (``token_unreadable``)."""
        token = self._from_file(self._file) if self._file else self._given
        return {"Authorization": f"Service {token}"} if token else {}

    def _from_file(self, file: Path) -> str:
        try:
            status = file.stat()
            stamp, token = (status.st_mtime_ns, status.st_ino, status.st_size), self._read[1]
            if stamp != self._read[0]:
                token = file.read_text().strip()
                self._read = (stamp, token)
        except (OSError, UnicodeDecodeError):
            raise Failed(ANSWERS["token_unreadable"]) from None
        if not _TOKEN.fullmatch(token):
            raise Failed(ANSWERS["token_unreadable"])
        return token
