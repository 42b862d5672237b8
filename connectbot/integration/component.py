"""What v21's classes have in common: they are used as classes and as attributes of the facade."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar, Self

from connectbot.integration.site import Site, default_site


class Component:
    """A class whose methods are called on the class itself, or on an object of it: that is all the same.

    ``site`` answers the site they work on. It is that of the process, unless `of` has made a class for another.
    """

    site: ClassVar[Callable[[], Site]] = default_site

    @classmethod
    def of(cls, site: Callable[[], Site]) -> type[Self]:
        """The same class for another site."""
        return cls if site is cls.site else type(cls.__name__, (cls,), {"site": site, "__doc__": cls.__doc__})
