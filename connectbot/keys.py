"""Every Redis key of the worker's own, with its type and its lifetime. No other file spells one.

They begin with `Keys.namespace`. The keys of the cache (menus, temporary data) follow the rule of Django's cache
framework instead: see `connectbot.cache_keys`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Keys:
    """The worker's own keys. ``namespace`` is ``connectbot`` except where several installations share a Redis."""

    namespace: str = "connectbot"

    # --- events -------------------------------------------------------------------------------------

    @property
    def events(self) -> str:
        """Stream of events; a consumer group a lane. Trimmed by `EventStream.trim`."""
        return f"{self.namespace}:events"

    @property
    def dead(self) -> str:
        """Stream of dead letters. Kept until an operator drops them."""
        return f"{self.namespace}:events:dead"

    def delayed(self, lane: str) -> str:
        """Sorted set: entry id → when it is due, in epoch seconds. A member goes when it is released."""
        return f"{self.namespace}:delayed:{lane}"

    def delayed_entry(self, lane: str, entry_id: str) -> str:
        """Hash: the fields of one delayed entry. Goes when it is released."""
        return f"{self.namespace}:delayed:{lane}:{entry_id}"

    @property
    def counters(self) -> str:
        """Hash: name of a counter → number since the beginning, such as ``unknown_type``."""
        return f"{self.namespace}:counters"

    def ages(self, lane: str) -> str:
        """Hash: upper bound in seconds → events that were up to that old at their effect; ``sum_ms``. Kept."""
        return f"{self.namespace}:ages:{lane}"

    def trace(self, bucket: int) -> str:
        """Stream: steps of those events whose ids fall into a bucket. Capped; lives eight days after the last step."""
        return f"{self.namespace}:trace:{bucket}"

    # --- v21's pub/sub ------------------------------------------------------------------------------

    def bridged(self, message: str) -> str:
        """String whose presence tells that the bridge has dealt with a message. Lives ten minutes."""
        return f"{self.namespace}:bridge:seen:{message}"

    @property
    def bridge_heard(self) -> str:
        """String: when a bridge last listened to v21's channels, in epoch milliseconds of Redis' clock. Kept."""
        return f"{self.namespace}:bridge:heard"

    # --- consumers ----------------------------------------------------------------------------------

    def fences(self, lane: str) -> str:
        """Hash: consumer → when it registered. A field goes when the consumer leaves or is taken over."""
        return f"{self.namespace}:fences:{lane}"

    def lease(self, consumer: str) -> str:
        """String (the lane) whose presence proves that the consumer is alive. Lives CONNECTBOT_LEASE_SECONDS."""
        return f"{self.namespace}:lease:{consumer}"

    @property
    def processes(self) -> str:
        """Sorted set: a worker or beat, as JSON → when it was last heard of, in epoch seconds. Ten minutes."""
        return f"{self.namespace}:processes"

    def standing_still(self, process: str) -> str:
        """String: the parts of a process that stand still, as a list in JSON. Lives ten seconds."""
        return f"{self.namespace}:processes:still:{process}"

    # --- users and their menus ----------------------------------------------------------------------

    @property
    def users(self) -> str:
        """Hash: user id → version of the newest event about the user, and the role. Kept for known users."""
        return f"{self.namespace}:users"

    @property
    def seen_users(self) -> str:
        """Hash: user id → version of the newest event that told no role when it created the user, and the role assumed.

        Goes when the user is deleted.
        """
        return f"{self.namespace}:users:seen"

    @property
    def deleted_users(self) -> str:
        """Sorted set: deleted user → when, in epoch seconds. `events.upkeep` forgets them after a day."""
        return f"{self.namespace}:users:deleted"

    @property
    def menu_walk(self) -> str:
        """String: there while a walk over all users' menus goes on, unless it was not heard of for a minute."""
        return f"{self.namespace}:menus:warm:walk"

    @property
    def menu_walk_satisfied(self) -> str:
        """String: there while nobody has asked for another walk since the present one began. Goes with it."""
        return f"{self.namespace}:menus:warm:walk:satisfied"

    def menu_walk_page(self, walk: str) -> str:
        """String: where a walk's next page begins, or that there is none. Lives for a minute after each page."""
        return f"{self.namespace}:menus:warm:walk:page:{walk}"

    @property
    def warm_menus(self) -> str:
        """Sorted set: users whose menus were written together, as a text of ids → when they run out, in epoch seconds.

        Some of the menus may have been written again since; then the user stands in a later text, too.
        """
        return f"{self.namespace}:menus:warm"

    @property
    def cleared_menus(self) -> str:
        """Hash: user id → when the menus were removed on purpose (epoch seconds). Lives as long as a menu."""
        return f"{self.namespace}:menus:cleared"

    @property
    def warming_place(self) -> str:
        """Hash: where an operator's walk over all users is (``place``, ``done``). Lives as long as a menu."""
        return f"{self.namespace}:menus:warming"

    # --- jobs for the Java service ------------------------------------------------------------------

    def parked(self, lane: str) -> str:
        """Sorted set: parked entry → its turn, in epoch milliseconds (`aside.parking`). Goes when it is released.

        The entry is named by its version, which begins with when its event first came, and its id.
        """
        return f"{self.namespace}:parked:{lane}"

    def parked_entry(self, lane: str, member: str) -> str:
        """Hash: the fields of one parked entry. Goes when it is released."""
        return f"{self.namespace}:parked:{lane}:{member}"

    def parked_deadlines(self, lane: str) -> str:
        """Sorted set: parked entry → its deadline, in epoch seconds. Goes when it is released."""
        return f"{self.namespace}:parked:{lane}:deadlines"

    def released(self, lane: str) -> str:
        """Sorted set: entry released and not yet asked for a permit → until when that is waited for, epoch ms."""
        return f"{self.namespace}:parked:{lane}:released"

    @property
    def java_breaker(self) -> str:
        """Hash: the circuit breaker's state and since when, and the longest time a permit was given for. Kept."""
        return f"{self.namespace}:java:breaker"

    @property
    def java_breaker_window(self) -> str:
        """List: one letter for each of the latest calls. Goes when the breaker changes its state."""
        return f"{self.namespace}:java:breaker:window"

    @property
    def java_breaker_trials(self) -> str:
        """Sorted set: permit of a call in the half-open state → when it lapses, in epoch milliseconds."""
        return f"{self.namespace}:java:breaker:trials"

    @property
    def java_breaker_probe(self) -> str:
        """String whose presence says that a worker looks at the service's health. Lives as long as a look may take."""
        return f"{self.namespace}:java:breaker:probe"

    @property
    def java_permits(self) -> str:
        """Sorted set: permit of a call in flight → when it lapses, in epoch milliseconds."""
        return f"{self.namespace}:java:permits"

    @property
    def java_rate(self) -> str:
        """String: until when the permitted rate is used up, in epoch microseconds. Lives until then."""
        return f"{self.namespace}:java:rate"

    def matching_claim(self, request: str) -> str:
        """String: the entry that works on a matching request, named by a hash. Lives half an hour."""
        return f"{self.namespace}:matching:claim:{request}"

    def matching_answered(self, request: str) -> str:
        """String whose presence says that matching.completed was published for a request. Lives half an hour."""
        return f"{self.namespace}:matching:answered:{request}"

    def matching_question(self, question: str) -> str:
        """String: the request in flight with a question, named by a hash; lives half an hour. Once it is answered, when
        that was, too; for two minutes.
        """
        return f"{self.namespace}:matching:question:{question}"

    # --- temporary data -----------------------------------------------------------------------------

    @property
    def temp_due(self) -> str:
        """Sorted set: namespace and key of temporary data, parted by U+001F → when it expires, in epoch seconds."""
        return f"{self.namespace}:temp:due"

    @property
    def temp_scan(self) -> str:
        """String: where the scan for temporary data without an expiry goes on (a cursor of SCAN)."""
        return f"{self.namespace}:temp:scan"

    def temp_namespace(self, namespace: str) -> str:
        """Set of the keys alive in one namespace of temporary data. Goes with its last member."""
        return f"{self.namespace}:temp:keys:{namespace}"

    # --- pub/sub channels of v21 (contract v21) -------------------------------------------------------

    def user_channel(self, user_id: int) -> str:
        """Channel of what concerns one user."""
        return f"{self.namespace}:user:{user_id}"

    @property
    def global_channel(self) -> str:
        """Channel of what concerns everybody."""
        return f"{self.namespace}:global"

    def service_channel(self, service: str) -> str:
        """Channel of one microservice, such as ``matching``."""
        return f"{self.namespace}:service:{service}"

    @property
    def channel_patterns(self) -> tuple[str, ...]:
        """Patterns (PSUBSCRIBE) for all the channels of v21."""
        return (self.global_channel, f"{self.namespace}:user:*", self.service_channel("*"))

    # --- what the site keeps to send each thing once ------------------------------------------------

    def spool(self, spool_id: str) -> str:
        """String: number of the last parcel delivered out of one spool file. Kept: the file may come back."""
        return f"{self.namespace}:spool:{spool_id}"

    def last_sent(self, sender: str) -> str:
        """String: id of the event that one thread of one process sent last. Lives a day."""
        return f"{self.namespace}:sent:{sender}"

    @property
    def probe(self) -> str:
        """String, written by who asks whether Redis can serve. Lives a second."""
        return f"{self.namespace}:probe"

    # --- beat ---------------------------------------------------------------------------------------

    @property
    def beat_prefix(self) -> str:
        """Prefix of redbeat's keys (``redbeat_key_prefix``)."""
        return f"{self.namespace}:beat:"

    @property
    def last_tick(self) -> str:
        """String: when ``temp_data.expire``, the most frequent entry of the schedule, ran last (epoch seconds)."""
        return f"{self.namespace}:beat:last-tick"
