"""Measure and compare: costs, benchmarks, ablations. No room above imports it."""
