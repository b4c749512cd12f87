"""Representational similarity: RDMs from responses, and their comparison. Names are re-exported by `neurometamer`."""
