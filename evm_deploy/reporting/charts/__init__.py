"""The charts of the HTML report, one in each file: from entries to SVG, or None where there is nothing to draw."""
