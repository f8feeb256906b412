"""Episodes recorded elsewhere, taken into the lake: checked in full first, then committed as one artifact."""
