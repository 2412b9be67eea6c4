"""Images for calibration and evaluation: from folders, lists, archives and iterables, decoded on demand."""
