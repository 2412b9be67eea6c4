"""The charts of the HTML report: one a file, each from entries to SVG, or None where there is nothing to draw."""
