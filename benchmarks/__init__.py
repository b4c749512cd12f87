"""Measures what the project promises, side by side with its peers: ``python -m benchmarks``. See README.md."""
