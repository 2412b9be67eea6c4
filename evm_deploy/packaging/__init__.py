"""Folders that are ready to use in an app, on a board or on a web site."""
