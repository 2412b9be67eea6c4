"""Latency that can be trusted: measured on any device, told in one schema."""
