"""The core: readings in, alerts out. Pure: no network, no files, no clock, no threads."""
