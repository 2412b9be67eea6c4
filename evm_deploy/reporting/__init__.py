"""Profiles to be read by people: a table, Markdown, one HTML file, pictures; and profiles read back from files."""

from evm_deploy.reporting.profile_folder import check_free, check_page, read, write, write_page

__all__ = ["check_free", "check_page", "read", "write", "write_page"]
