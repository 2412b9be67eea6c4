"""Images as calibration and evaluation read them: folders, lists, archives, iterables; decoded when asked for."""
