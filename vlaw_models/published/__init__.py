"""Published weights, brought into checkpoint folders of ours: which tensors there are, which of ours each becomes, and
a strict report. Tensors are linked, or copied piece by piece: none is ever in memory as a whole file."""
