"""Rolling a policy out in a world: collecting, imagining, replaying, evaluating."""
