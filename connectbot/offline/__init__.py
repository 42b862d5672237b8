"""While Redis is away: noticing it, keeping what must reach it, and what is shown meanwhile."""
