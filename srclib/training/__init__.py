"""The one loop: what configures, controls and carries it."""
