"""Folders that an app, a board or a web site takes as they are."""
