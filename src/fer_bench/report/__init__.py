"""What people read: figures, terminal tables and self-contained pages.

This module knows how a number is written; the others know where it goes.
"""
