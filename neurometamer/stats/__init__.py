"""Statistics that know no RDMs: resampling, permutation, families of tests, paired designs."""
