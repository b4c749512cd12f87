"""A BIDS data set: its files, what is wrong with it, and the runs of its subjects."""
