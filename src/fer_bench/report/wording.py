"""How numbers, intervals and names are written, wherever they are shown."""

from collections.abc import Mapping, Sequence

LABELS = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "macro_f1": "macro F1",
    "weighted_f1": "weighted F1",
    "kappa": "Cohen's kappa",
    "roc_auc_macro": "macro ROC AUC (one-vs-rest)",
    "nll": "negative log-likelihood",
    "brier": "Brier score (0 to 2)",
    "ece": "calibration error (ECE)",
    "ece_adaptive": "calibration error (adaptive ECE)",
    "macro_precision": "macro precision",
    "macro_recall": "macro recall",
    "weighted_precision": "weighted precision",
    "weighted_recall": "weighted recall",
    "average_precision_macro": "macro average precision",
    "top2_accuracy": "top-2 accuracy",
    "micro_precision_at_half": "micro precision (p > 0.5)",
    "micro_recall_at_half": "micro recall (p > 0.5)",
    "valence_ccc": "valence CCC",
    "arousal_ccc": "arousal CCC",
}

# The metrics of valence and of arousal.
AXIS_LABELS = {
    "ccc": "concordance (CCC)",
    "pcc": "correlation (PCC)",
    "rmse": "error (RMSE)",
    "sagr": "same sign (SAGR)",
}

# Shown as percentages; the other metrics are plain numbers.
PERCENT_METRICS = frozenset(
    {
        *("accuracy", "balanced_accuracy", "macro_f1", "weighted_f1", "ece", "ece_adaptive"),
        *("macro_precision", "macro_recall", "weighted_precision", "weighted_recall"),
        *("top2_accuracy", "micro_precision_at_half", "micro_recall_at_half"),
        *("precision", "recall", "f1"),
    }
)

MISSING = "-"

Cell = Mapping[str, float | None]


def write_value(metric: str, value: float | None) -> str:
    """The value of a metric: `92.34%` or `0.9012`."""
    if value is None:
        return MISSING
    return f"{value:.2%}" if metric in PERCENT_METRICS else f"{value:.4f}"


def write_interval(metric: str, cell: Cell) -> str:
    """The 95% interval of a metric: `91.33% to 93.24%`."""
    if cell["low"] is None or cell["high"] is None:
        return MISSING
    return f"{write_value(metric, cell['low'])} to {write_value(metric, cell['high'])}"


def write_label(metric: str) -> str:
    """A metric in words, also one that only publications report."""
    return LABELS.get(metric, metric.replace("_", " "))


def write_heading(metric: str) -> str:
    """The heading of a column of the three below: `accuracy, %`, `valence CCC`."""
    return f"{LABELS[metric]}, %" if metric in PERCENT_METRICS else LABELS[metric]


def write_cell(metric: str, cell: Cell | None) -> str:
    """A value with its interval where space is short: `92.34 [91.33, 93.24]`, no unit."""
    value, low, high = (cell[part] if cell else None for part in ("value", "low", "high"))
    if value is None or low is None or high is None:
        return MISSING
    return f"{_short(metric, value)} [{_short(metric, low)}, {_short(metric, high)}]"


def write_difference(metric: str, difference: float, low: float, high: float) -> str:
    """A difference of two values: `+0.42 [-0.30, +1.10]`, in points for percentages."""
    shown = (_short(metric, value, "+") for value in (difference, low, high))
    return "{} [{}, {}]".format(*shown)


def write_spread(metric: str, mean: float, deviation: float) -> str:
    """Mean and standard deviation over seeds: `92.34 ± 0.21`, no unit."""
    return f"{_short(metric, mean)} ± {_short(metric, deviation)}"


def _short(metric: str, value: float, sign: str = "") -> str:
    return f"{100 * value:{sign}.2f}" if metric in PERCENT_METRICS else f"{value:{sign}.3f}"


def write_p(p: float) -> str:
    """A p value: `0.034`, or `< 0.001`."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def write_size(size: float) -> str:
    """A number of bytes: `1.5 GB`, in powers of ten like `cache.max_gb`."""
    if size < 1000:
        return f"{size:.0f} B"
    for unit in ("kB", "MB", "GB"):
        size /= 1000
        if round(size, 1) < 1000:
            return f"{size:.1f} {unit}"
    return f"{size / 1000:.1f} TB"


def write_methods(methods: Mapping[str, str]) -> str:
    """How intervals are computed: `Wilson for accuracy; class-stratified bootstrap for the others`.

    Args:
        methods: the method of each metric, as in `interval.methods` of a metrics file.
    """
    by_method: dict[str, list[str]] = {}
    for name, method in methods.items():
        by_method.setdefault(method, []).append(write_label(name))
    *few, most = sorted(by_method.items(), key=lambda item: len(item[1])) or [("", [])]
    exceptions = [f"{_method(method)} for {_and(names)}" for method, names in few]
    return "; ".join([*exceptions, _method(most[0]) + (" for the others" if few else "")])


def _method(method: str) -> str:
    return method.replace("wilson", "Wilson")


def _and(names: Sequence[str]) -> str:
    *others, last = names
    return f"{', '.join(others)} and {last}" if others else last


def write_count(count: int | None) -> str:
    """A large number of things: `118.5 M`, `66.2 k`, `306`."""
    if count is None:
        return MISSING
    for size, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return str(count)


def write_duration(seconds: float | None) -> str:
    """A duration: `2 h 05 min`, `12 min 30 s`, `8 s`."""
    if seconds is None:
        return MISSING
    hours, minutes, rest = _parts(seconds)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


def write_clock(seconds: float | None) -> str:
    """A duration in a narrow column: `2:05:10`, `12:30`, `0:08`."""
    if seconds is None:
        return MISSING
    hours, minutes, rest = _parts(seconds)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


def _parts(seconds: float) -> tuple[int, int, int]:
    minutes, rest = divmod(round(seconds), 60)
    return (*divmod(minutes, 60), rest)
