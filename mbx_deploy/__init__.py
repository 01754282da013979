"""MatchboxNet from training to a microcontroller, with the same bytes at every step."""

__version__ = "0.1.0"
