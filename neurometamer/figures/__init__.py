"""Figures from tables and arrays; `style`, `labels` and `pages` are shared by all."""
