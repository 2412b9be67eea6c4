"""How right a model is: contenders on the same images, counted once, in one process or by shards on a cluster."""
