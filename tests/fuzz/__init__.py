"""Damaged files and odd input, made from a seed, and what each command does with them."""
