"""How alike two RDMs are, by name."""
