"""Train, evaluate and compare facial-expression models so that the numbers can be trusted."""

__version__ = "0.1.0"
