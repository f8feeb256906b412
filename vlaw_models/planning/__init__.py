"""What a stage needs of a GPU, found out before it starts."""
