"""World models and autoencoders; see `base.load_world_model` and `autoencoder.load_autoencoder`."""
