"""Train, evaluate and compare facial-expression models so that the numbers can be trusted."""

import importlib.metadata

from fer_bench import settings

__version__ = importlib.metadata.version("fer-bench")

settings.install()
