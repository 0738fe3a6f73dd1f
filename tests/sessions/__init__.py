"""Tests of saved talk."""
