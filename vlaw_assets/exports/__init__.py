"""Episodes in formats that other tools open: a Rerun recording, a Croissant dataset."""
