"""LIBERO's Franka arm, simulated in a process of its own environment: four suites of ten tasks each."""
