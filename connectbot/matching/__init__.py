"""Matchings: what is asked and answered, who waits for an answer, and pairs made without the Java service."""
