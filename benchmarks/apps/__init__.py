"""What is measured beside us: the same work, done as each project's own documentation does it.

Each module runs in the environment of its peer, where none of our packages is; it has an ``enqueue(texts)``, and
what its worker needs.
"""
