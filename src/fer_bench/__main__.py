"""`python -m fer_bench` is `fer`."""

from fer_bench.cli import main
from fer_bench.sweep.parent import stop_with_parent

if __name__ == "__main__":
    stop_with_parent()
    main()
