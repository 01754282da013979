"""The commands, a module a kind. None imports anything heavier than click before it runs."""
