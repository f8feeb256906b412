"""Meta-World's Sawyer arm behind the extra `metaworld`: nine of its tasks, its scripted experts."""
