"""How an installation is: its figures, its processes, and what is wrong in a sentence."""
