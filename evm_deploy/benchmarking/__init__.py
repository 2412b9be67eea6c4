"""Every form of one checkpoint that this machine can make, beside each other."""
