"""Pages on which episodes are watched: which ones, what belongs to each, their clips, and the page itself."""
