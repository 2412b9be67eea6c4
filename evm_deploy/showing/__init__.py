"""What a detector or segmenter found, in the pixels of the image that it was shown, for people and for files."""
