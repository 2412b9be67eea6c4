"""Reads saved Core ML packages and evaluates them op by op, without Core ML."""
