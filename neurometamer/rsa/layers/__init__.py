"""Layers of a network beside regions of brains."""
