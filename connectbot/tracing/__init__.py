"""What became of an event: its trace, the way that it tells, and where the event is now."""
