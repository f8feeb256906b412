"""Autoencoders: frames to the space in which a world model predicts, and back; see `base.load_autoencoder`."""
