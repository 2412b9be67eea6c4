"""From a float bundle to an integer one: samples, ranges, equalisation, placement, and what each layer costs."""
