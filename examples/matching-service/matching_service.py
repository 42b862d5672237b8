"""The stand-in for the matching service, for machines without Java: ``python matching_service.py --port 8080``."""

from connectbot.testing.matching_service import main

main()
