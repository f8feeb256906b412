"""World models; see `base.load_world_model`."""
