"""RSA in every neighborhood of a brain."""
