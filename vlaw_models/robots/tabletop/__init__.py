"""The embedded robot: a MuJoCo tabletop with a Cartesian gripper, three cameras and five tasks."""
