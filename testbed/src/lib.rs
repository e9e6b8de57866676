//! Starts real Knots, Heralds and PoPs for tests, ./dev run and benchmarks.
