"""Profiles for people: a table, Markdown, an HTML file and pictures. Also reads profiles back from files."""

from evm_deploy.reporting.profile_folder import check_free, check_page, read, write, write_page

__all__ = ["check_free", "check_page", "read", "write", "write_page"]
