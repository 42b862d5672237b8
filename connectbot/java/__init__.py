"""The parts behind `JavaService`: what its answers mean, and when it may be called at all."""
