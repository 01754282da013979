"""A build -> a board: its firmware is written to the flash, and read back."""
