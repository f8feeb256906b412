"""Meta-World's Sawyer arm behind the extra `metaworld`: ten of its tasks (MT10), its scripted experts."""
