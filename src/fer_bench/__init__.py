"""Train, evaluate and compare facial-expression models so that the numbers can be trusted."""

from fer_bench import settings

__version__ = "0.1.0"

settings.install()
