"""What the README says of the settings is what the code says."""

from __future__ import annotations

import dataclasses

from connectbot.settings import Settings
from tests.support import ROOT


def test_the_table_of_settings_is_that_of_the_code() -> None:
    rows = [
        f"| `{field.metadata['variable']}` | {field.metadata['meaning']} |" for field in dataclasses.fields(Settings)
    ]
    table = (ROOT / "README.md").read_text().partition("<!-- settings:")[2].partition("<!-- end of settings -->")[0]
    found = [line for line in table.splitlines() if line.startswith("| `")]
    assert found == rows, "the table should be:\n" + "\n".join(rows)
