"""Saved Core ML packages, read and evaluated without Core ML: an own reader of the file formats, op after op."""
