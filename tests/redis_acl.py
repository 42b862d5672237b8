"""The users of deploy/redis-acl, with passwords that tests know."""

from __future__ import annotations

import hashlib
from pathlib import Path

from connectbot.redis_client import RedisClient

ROLES = ("publisher", "worker", "operator")
USERS = Path(__file__).parents[1] / "deploy" / "redis-acl" / "users.acl"
ADMINISTRATOR = "user default on nopass ~* &* +@all"
"""In place of ``user default off``: tests flush and set what no role may."""


def password_of(role: str) -> str:
    """The password of a role."""
    return f"password-of-{role}"


def write_users(file: Path) -> Path:
    """Write the users to ``file``, which Redis takes as ``aclfile``."""
    lines = USERS.read_text().splitlines()
    text = "\n".join([ADMINISTRATOR, *(line for line in lines if not line.startswith("user default "))])
    for role in ROLES:
        digest = hashlib.sha256(password_of(role).encode()).hexdigest()
        text = text.replace(f"{role.upper()}_SHA256", digest)
    file.write_text(text + "\n")
    return file


def with_role(url: str, role: str) -> str:
    """The address of a Redis, for one role."""
    return url.replace("://", f"://{role}:{password_of(role)}@", 1)


def refusals(administrator: RedisClient) -> list[str]:
    """What was refused to whom, as Redis remembers it (ACL LOG).

    Without CLIENT: redis-py tells its own name and version, and does not mind when it may not.
    """
    rows = administrator.execute_command("ACL", "LOG", 100)
    told = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    lines = {" ".join(row[name].decode() for name in (b"username", b"reason", b"object")) for row in told}
    return sorted(line for line in lines if not line.endswith(" command client"))
