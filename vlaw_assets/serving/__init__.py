"""A trained policy that a robot can ask, over openpi's websocket protocol, and the record of what it was told."""
