"""Attacks real workers, keeps its own books, and says which promises held: ``connectbot chaos``."""
