"""Runs, sweeps of them, their store and their tables."""
