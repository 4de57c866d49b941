"""Names as users spell them."""

from fer_bench.spelling import did_you_mean


def test_no_hint_for_a_name_like_no_other() -> None:
    assert did_you_mean("xyz", ["vgg16", "resnet50"]) == ""
    assert did_you_mean("vgg", ["vgg16", "resnet50"]) == "Did you mean 'vgg16'?"
