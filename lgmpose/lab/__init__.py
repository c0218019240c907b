"""What measures and compares: costs, benchmarks, ablations. Nothing above imports it."""
