"""``connectbot chaos``: attack real workers, and say which promises held."""

from __future__ import annotations

import dataclasses
import json
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from connectbot.settings import Settings
from worker.chaos.plain_celery import PlainCelerySystem
from worker.chaos.run import Plan, Run, Target
from worker.chaos.schedule import make_schedule
from worker.chaos.scorecard import Scorecard
from worker.chaos.system import ConnectBotSystem, System
from worker.chaos.target import NAMESPACE_PREFIX, OperatorsRedis, OwnRedis
from worker.commands.common import SEEN_BY_ALL, interrupt_on_signals, output

SYSTEMS: dict[str, Callable[[Settings], System]] = {"connectbot": ConnectBotSystem, "celery": PlainCelerySystem}


@click.command()
@click.option("--events", default=20_000, show_default=True, type=click.IntRange(1), help="Events to publish.")
@click.option(
    "--kills",
    default=10,
    show_default=True,
    type=click.IntRange(0),
    help="kill -9 of workers; for every five of them, one SIGTERM and one SIGSTOP come on top.",
)
@click.option("--redis-outages", default=0, show_default=True, type=click.IntRange(0), help="Outages of Redis.")
@click.option("--workers", default=3, show_default=True, type=click.IntRange(1), help="Workers, of two processes each.")
@click.option("--seed", default=1, show_default=True, help="The same seed plays the same attacks again.")
@click.option("--compare", type=click.Choice(["celery"]), help="Attack plain Celery tasks in the same way, too.")
@click.option(
    "--redis-url",
    default="",
    help=f"Use this Redis, and leave it alone, instead of an embedded one; {SEEN_BY_ALL}.",
)
@click.option("--allow-foreign-keys", is_flag=True, help="Use it although there are keys in it that are not of chaos.")
@click.option("--log-directory", type=click.Path(file_okay=False, path_type=Path), help="Keep the workers' logs here.")
@click.option("--json", "as_json", is_flag=True, help="Print the scorecards as one JSON object, and nothing else.")
def chaos(
    *,
    events: int,
    kills: int,
    redis_outages: int,
    workers: int,
    seed: int,
    compare: str | None,
    redis_url: str,
    allow_foreign_keys: bool,
    log_directory: Path | None,
    as_json: bool,
) -> None:
    """Attack real workers under load, keep independent books, and print a scorecard.

    Exit status 1 when a promise of this package broke; what it is compared with promises nothing.
    """
    if redis_url and redis_outages:
        raise click.UsageError("--redis-outages is for the embedded Redis only: leave --redis-url out")
    interrupt_on_signals()
    schedule = make_schedule(seed=seed, kills=kills, workers=workers, redis_outages=redis_outages)
    plan = Plan(events=events, seed=seed, workers=workers, schedule=schedule)
    cards = []
    with tempfile.TemporaryDirectory(prefix="connectbot-chaos-") as temporary:
        for name in ["connectbot", *([compare] if compare else [])]:
            directory = (log_directory or Path(temporary)) / name
            directory.mkdir(parents=True, exist_ok=True)
            settings = _settings()
            target: Target = (
                OperatorsRedis(redis_url, namespace=settings.namespace, foreign_keys_allowed=allow_foreign_keys)
                if redis_url
                else OwnRedis(Path(temporary) / name / "redis", proxied=redis_outages > 0)
            )
            cards.append(_play(name, plan, settings=settings, target=target, directory=directory))
    _show(cards, as_json=as_json)
    sys.exit(1 if cards[0].broken else 0)


def _settings() -> Settings:
    """Those of the operator, under names of our own."""
    namespace = f"{NAMESPACE_PREFIX}-{uuid.uuid4().hex[:8]}"
    return dataclasses.replace(Settings.load(), namespace=namespace, cache_key_prefix=namespace)


def _play(name: str, plan: Plan, *, settings: Settings, target: Target, directory: Path) -> Scorecard:
    console = Console(stderr=True)

    def tell(line: str) -> None:
        if console.is_terminal:
            status.update(f"{name}: {line}")
        else:
            click.echo(f"{name}: {line}", err=True)

    with console.status(f"{name}: starting {plan.workers} workers") as status:
        target.start()
        try:
            make_system = SYSTEMS[name]
            run = Run(plan, settings=settings, target=target, make_system=make_system, directory=directory, tell=tell)
            return run.play()
        finally:
            target.stop()


def _show(cards: Sequence[Scorecard], *, as_json: bool) -> None:
    broken = cards[0].broken
    if as_json:
        click.echo(json.dumps({"ok": not broken, "scorecards": [card.as_dict() for card in cards]}))
        return
    table = Table("", *(card.system for card in cards), title="chaos")
    for rows in zip(*(card.rows() for card in cards), strict=True):
        table.add_row(rows[0][0], *(seen for _, seen in rows))
    output().print(table)
    click.echo("\n".join(f"broken: {promise}" for promise in broken) or "every promise held")
