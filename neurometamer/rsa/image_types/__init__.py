"""Similarity of image types (RE, AN, AI): values, intervals, tests."""
