"""All that one process needs to work with one installation, opened together from its settings."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from connectbot.cache import Cache, CacheCodec
from connectbot.java.circuit_breaker import CircuitBreaker, Rules
from connectbot.java.gate import JavaGate
from connectbot.java_service import JavaService
from connectbot.matching.claims import MatchingClaims
from connectbot.menus import Menus
from connectbot.publisher import EventPublisher
from connectbot.redis_client import RedisClient, connect
from connectbot.settings import Settings
from connectbot.stream import EventStream
from connectbot.temp_data import TempData
from connectbot.tracing.trace import Tracer
from connectbot.users import Users

JAVA_LANE: Final = "java"
"""The lane whose jobs wait for the Java service (contract v21)."""


@dataclass(frozen=True, slots=True)
class Clients:
    """The clients of one process. Open them after a fork: connections must not be shared with the parent."""

    settings: Settings
    redis: RedisClient
    cache: Cache
    stream: EventStream
    publisher: EventPublisher
    tracer: Tracer
    users: Users
    menus: Menus
    temp_data: TempData
    java: JavaService
    java_gate: JavaGate
    claims: MatchingClaims

    @classmethod
    def open(cls, settings: Settings, *, client: RedisClient | None = None) -> Clients:
        """Make every client; connections are opened on first use. ``client`` is one of other timeouts than usual."""
        client = connect(settings.redis_url) if client is None else client
        keys, cache_keys = settings.keys, settings.cache_keys
        cache = Cache(client, CacheCodec(settings.cache_serializer), cache_keys)
        stream = EventStream(client, keys)
        tracer = Tracer(keys, settings.trace_share)
        return cls(
            settings=settings,
            redis=client,
            cache=cache,
            stream=stream,
            publisher=EventPublisher(
                client, keys=keys, room=settings.room, largest_bytes=settings.max_event_bytes, tracer=tracer
            ),
            tracer=tracer,
            users=Users(client, keys),
            menus=Menus(
                client,
                cache=cache,
                keys=keys,
                cache_keys=cache_keys,
                warm=settings.warm_menus,
                ttl_seconds=settings.menu_ttl_seconds,
            ),
            temp_data=TempData(
                client,
                cache=cache,
                keys=keys,
                cache_keys=cache_keys,
                ttl_seconds=settings.temp_data_ttl_seconds,
            ),
            java=JavaService.from_settings(settings),
            java_gate=JavaGate.from_settings(
                CircuitBreaker(client, keys, Rules.from_settings(settings), lane=JAVA_LANE), settings
            ),
            claims=MatchingClaims(client, keys, cache_keys),
        )

    def distrust_connections(self) -> None:
        """Close the connections that are not in use: where one was half-open, the others most likely are, too."""
        self.publisher.distrust_connections()
        self.stream.distrust_connections()
        self.java_gate.breaker.distrust_connections()
        self.claims.distrust_connections()
        self.redis.connection_pool.disconnect(inuse_connections=False)
