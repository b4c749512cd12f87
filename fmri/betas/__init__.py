"""Betas: from BOLD runs and events to one response a presentation, or read from other programs."""
