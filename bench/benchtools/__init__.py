"""What benchmarks share: systems, our engine, its peers, the table."""
