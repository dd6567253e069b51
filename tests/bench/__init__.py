"""Figures, not tests: how fast and how small, beside a raw floor and the usual shell loop, in one run."""
