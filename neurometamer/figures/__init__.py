"""Figures: tables and arrays in, matplotlib figures out; `style`, `labels` and `pages` are shared by all."""
