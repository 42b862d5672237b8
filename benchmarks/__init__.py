"""How fast the worker is, measured beside its peers in one run: ``python -m benchmarks`` (``make bench``)."""
