"""Train, evaluate and compare facial-expression models so that the numbers can be trusted."""

from fer_bench import settings

settings.install()


def __getattr__(name: str) -> str:
    """The version is looked up when it is needed, since that import takes as long as `--help`."""
    if name != "__version__":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    import importlib.metadata

    return importlib.metadata.version("fer-bench")
