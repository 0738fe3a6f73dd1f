"""Measurements: each script prints a table, then one JSON line; `make bench` runs them all."""
