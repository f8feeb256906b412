"""Making again: what is no longer what it would be made from now (`staleness`), and a policy's closure (`replay`)."""
