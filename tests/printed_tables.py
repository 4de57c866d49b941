"""Seven classification reports of prior work as they were printed, and the counts behind them."""

from dataclasses import dataclass

CLASSES = ("Angry", "Disgust", "Fear", "Happy", "Neutral", "Sad", "Surprise")
SUPPORT = (49, 39, 34, 43, 51, 35, 55)


@dataclass(frozen=True)
class Report:
    """One report on 306 images.

    Attributes:
        precision: by class, as printed; so are `recall` and `f1`.
        accuracy: as printed.
        averages: macro and weighted average of precision, of recall and of F1.
        printed: how many of `averages` were printed; the others follow from the counts.
        true_positives: by class.
        predicted: number of predictions by class.
    """

    precision: str
    recall: str
    f1: str
    accuracy: float
    averages: tuple[float, ...]
    printed: int
    true_positives: tuple[int, ...]
    predicted: tuple[int, ...]

    @property
    def correct(self) -> int:
        """The number of images that were classified correctly."""
        return sum(self.true_positives)


REPORTS = {
    "t1": Report(
        precision="0.3077 0.5102 0.1778 0.45 0.3696 0.2571 0.5897",
        recall="0.3265 0.641 0.2353 0.4186 0.3333 0.2571 0.4182",
        f1="0.3168 0.5682 0.2025 0.4337 0.3505 0.2571 0.4894",
        accuracy=0.3791,
        averages=(0.3803, 0.3943, 0.3757, 0.3791, 0.374, 0.3824),
        printed=2,
        true_positives=(16, 25, 8, 18, 17, 9, 23),
        predicted=(52, 49, 45, 40, 46, 35, 39),
    ),
    "t2": Report(
        precision="0.3077 0.5625 0.1778 0.4222 0.375 0.2105 0.6316",
        recall="0.3265 0.6923 0.2353 0.4419 0.2941 0.2286 0.4364",
        f1="0.3168 0.6207 0.2025 0.4318 0.3297 0.2192 0.5161",
        accuracy=0.3824,
        averages=(0.3839, 0.4001, 0.3793, 0.3824, 0.3767, 0.3858),
        printed=2,
        true_positives=(16, 27, 8, 19, 15, 8, 24),
        predicted=(52, 48, 45, 45, 40, 38, 38),
    ),
    # The accuracy printed here is its macro precision; 105 of 306 is 0.3431.
    "t3": Report(
        precision="0.1957 0.4902 0.119 0.3571 0.3077 0.1892 0.7778",
        recall="0.1837 0.641 0.1471 0.3488 0.3137 0.2 0.5091",
        f1="0.1895 0.5556 0.1316 0.3529 0.3107 0.1944 0.6154",
        accuracy=0.3481,
        averages=(0.3481, 0.3699, 0.3348, 0.3431, 0.3357, 0.35),
        printed=2,
        true_positives=(9, 25, 5, 15, 16, 7, 28),
        predicted=(46, 51, 42, 42, 52, 37, 36),
    ),
    "t4": Report(
        precision="0.2727 0.3148 0.1538 0.4028 0.4 0.1731 0.6667",
        recall="0.1224 0.4359 0.1765 0.6744 0.1961 0.2571 0.5091",
        f1="0.169 0.3656 0.1644 0.5043 0.2632 0.2069 0.5773",
        accuracy=0.3431,
        averages=(0.3406, 0.3638, 0.3388, 0.3431, 0.3215, 0.3341),
        printed=6,
        true_positives=(6, 17, 6, 29, 10, 9, 28),
        predicted=(22, 54, 39, 72, 25, 52, 42),
    ),
    # One prediction is of a class without a true positive; which class changes no cell.
    "t5": Report(
        precision="0 0.1667 0.1124 0 0.1951 0 0",
        recall="0 0.0256 0.8529 0 0.1569 0 0",
        f1="0 0.0444 0.1986 0 0.1739 0 0",
        accuracy=0.1242,
        averages=(0.0677, 0.0663, 0.1479, 0.1242, 0.0596, 0.0567),
        printed=6,
        true_positives=(0, 1, 29, 0, 8, 0, 0),
        predicted=(1, 6, 258, 0, 41, 0, 0),
    ),
    "vgg_fe": Report(
        precision="0.2973 0.5 0.25 0.6111 0.6176 0.2535 0.7955",
        recall="0.2245 0.7179 0.2059 0.5116 0.4118 0.5143 0.6364",
        f1="0.2558 0.5895 0.2258 0.557 0.4941 0.3396 0.7071",
        accuracy=0.4641,
        averages=(0.475, 0.4999, 0.4603, 0.4641, 0.4527, 0.4677),
        printed=6,
        true_positives=(11, 28, 7, 22, 21, 18, 35),
        predicted=(37, 56, 28, 36, 34, 71, 44),
    ),
    "vgg_ft": Report(
        precision="0.2857 0.5918 0.2963 0.7097 0.4762 0.3273 0.7358",
        recall="0.1633 0.7436 0.2353 0.5116 0.5882 0.5143 0.7091",
        f1="0.2078 0.6591 0.2623 0.5946 0.5263 0.4 0.7222",
        accuracy=0.5033,
        averages=(0.489, 0.5029, 0.4951, 0.5033, 0.4818, 0.4933),
        printed=6,
        true_positives=(8, 29, 8, 22, 30, 18, 39),
        predicted=(28, 49, 27, 31, 63, 55, 53),
    ),
}
