"""Regions: masks, labels, maps, spheres, atlases and expressions of these."""
