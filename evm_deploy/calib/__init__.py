"""From a float bundle to an integer one: ranges, equalisation, placement, and what each layer costs."""
