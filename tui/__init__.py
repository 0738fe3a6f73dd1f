"""The interface; enters engine and sessions by their front doors."""
