"""Similarity of two RDMs: one entry for each comparator."""
