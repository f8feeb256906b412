"""What several benchmarks, or benchmarks and tests, use. Scripts lie one folder up; `make bench` runs each of them."""
