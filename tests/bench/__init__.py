"""The benchmarks the README quotes."""
