"""Measurements; each module is one command and prints what `docs/performance.md` holds."""
