"""The users of deploy/redis-acl, with passwords that tests know."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from connectbot.redis_client import RedisClient

ROLES = ("publisher", "worker", "operator")
USERS = Path(__file__).parents[1] / "deploy" / "redis-acl" / "users.acl"
ADMINISTRATOR = "user default on nopass ~* &* +@all"
"""In place of ``user default off``: tests flush and set what no role may."""


def password_of(role: str) -> str:
    """The password of a role."""
    return f"password-of-{role}"


def write_users(file: Path, *, more: Mapping[str, str] = MappingProxyType({})) -> Path:
    """Write the users to ``file``, which Redis takes as ``aclfile``; ``more`` holds further rules of a role."""
    lines = [ADMINISTRATOR]
    for line in USERS.read_text().splitlines():
        role = line.split()[1]
        if role in ROLES:
            digest = hashlib.sha256(password_of(role).encode()).hexdigest()
            lines.append(f"{line} {more.get(role, '')}".strip().replace(f"{role.upper()}_SHA256", digest))
    file.write_text("\n".join(lines) + "\n")
    return file


def with_role(url: str, role: str) -> str:
    """The address of a Redis, for one role in place of any other."""
    scheme, _, rest = url.partition("://")
    return f"{scheme}://{role}:{password_of(role)}@{rest.rpartition('@')[2]}"


def refusals(administrator: RedisClient) -> list[str]:
    """What was refused to whom, as Redis remembers it (ACL LOG).

    Without CLIENT: redis-py tells its own name and version, and does not mind when it may not.
    """
    rows = administrator.execute_command("ACL", "LOG", 100)
    told = [dict(zip(row[::2], row[1::2], strict=True)) for row in rows]
    lines = {" ".join(row[name].decode() for name in (b"username", b"reason", b"object")) for row in told}
    return sorted(line for line in lines if line.split()[0] in ROLES and not line.endswith(" command client"))
