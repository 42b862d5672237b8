"""The commands of ``connectbot``, a file a noun."""
