"""The loop of gradient synthesis and its parts."""
