"""How the stand-in for the matching service is told to misbehave."""

from __future__ import annotations

import argparse
import dataclasses
from collections.abc import Mapping
from typing import Any

from connectbot.testing.matching_rules import NotUnderstood


def _switch(default: Any, meaning: str, **rules: Any) -> Any:
    return dataclasses.field(default=default, metadata={"meaning": meaning, **rules})


@dataclasses.dataclass(frozen=True, kw_only=True, slots=True)
class Switches:
    """How the stand-in behaves. Each is an option too: ``--latency-ms 20 --no-list-unmatched``."""

    latency_ms: int = _switch(0, "milliseconds that each answer takes at least")
    status: int = _switch(0, "HTTP status answered in place of results; 0: none")
    error_rate: float = _switch(0.0, "share of calls that fail, evenly spread: with `status`, else 500")
    retry_after: str = _switch("", "value of the header Retry-After on answers by `status` or `error_rate`")
    hang: bool = _switch(False, "never answer; when switched off, the connections that wait are closed")
    half: bool = _switch(False, "send half of the answer, then close the connection")
    wrong_json: bool = _switch(False, "answer 200 with something that is not JSON")
    error: str = _switch("", "answer 200 with status `error` and this text")
    pair_shape: str = _switch("ids", "how a pair is written: `ids` or `objects`", choices=("ids", "objects"))
    list_unmatched: bool = _switch(True, "list unpaired people as `unmatched_employees`")
    degraded: bool = _switch(False, "health answers 503 DEGRADED, as it does with a `status` of 500 or more")
    token: str = _switch("", "token that callers must send; empty: none")

    def changed(self, changes: Any) -> Switches:
        """These with some changed. Raises `NotUnderstood` when a switch does not exist or a value does not fit."""
        if not isinstance(changes, Mapping):
            raise NotUnderstood("the body is an object of switches")
        known = {field.name: field for field in dataclasses.fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise NotUnderstood(f"there is no switch {name}")
            if not _fits(known[name], value):
                raise NotUnderstood(f"{name} is like {known[name].default!r}: {known[name].metadata['meaning']}")
        return dataclasses.replace(self, **changes)

    def shown(self) -> dict[str, Any]:
        """All of them, with the token hidden."""
        return {**dataclasses.asdict(self), "token": "***" if self.token else ""}

    def fail(self, number: int) -> bool:
        """Whether the call of that number, counted from 1, is to be answered with a status that is not 200."""
        if self.error_rate:
            return int(number * self.error_rate) > int((number - 1) * self.error_rate)
        return self.status != 0


def _fits(field: dataclasses.Field[Any], value: Any) -> bool:
    kind = type(field.default)
    right_kind = type(value) is kind or (kind is float and type(value) is int)
    return right_kind and value in field.metadata.get("choices", (value,))


def add_options(parser: argparse.ArgumentParser) -> None:
    """An option for each switch, under the switch's own name."""
    for field in dataclasses.fields(Switches):
        option, meaning = "--" + field.name.replace("_", "-"), field.metadata["meaning"]
        kind = type(field.default)
        if kind is bool:
            parser.add_argument(option, action=argparse.BooleanOptionalAction, default=field.default, help=meaning)
        else:
            parser.add_argument(
                option, type=kind, default=field.default, choices=field.metadata.get("choices"), help=meaning
            )
