"""HTML pages: one base, and a page for each kind of result."""
