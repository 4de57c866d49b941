"""`import fer_bench`: what it offers, and what that costs."""

import ast
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from messages import says

import fer_bench

SLOW = ("keras", "matplotlib", "pandas", "pydantic", "rich", "tensorflow")


def python(code: str) -> str:
    """The standard output of a new interpreter."""
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}
    return subprocess.run(
        [sys.executable, "-c", code], check=True, env=environment, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def test_the_import_loads_nothing_slow() -> None:
    code = f"import sys, fer_bench; print(sorted(set({SLOW}) & set(sys.modules)))"
    assert python(code) == "[]"


def test_no_call_loads_tensorflow_before_it_computes() -> None:
    code = (
        "import sys, fer_bench\n"
        "for name in fer_bench.__all__: getattr(fer_bench, name)\n"
        "fer_bench.datasets(), fer_bench.backbones()\n"
        "print(sorted({'keras', 'tensorflow'} & set(sys.modules)))"
    )
    assert python(code) == "[]"


def test_every_name_is_there_and_documented() -> None:
    assert set(fer_bench.__all__) <= set(dir(fer_bench))
    for name in fer_bench.__all__:
        assert getattr(fer_bench, name).__doc__


def test_type_checkers_see_the_same_names() -> None:
    path = Path(fer_bench.__file__)
    block = next(node for node in ast.parse(path.read_text()).body if isinstance(node, ast.If))
    seen = {
        alias.asname: node.module
        for node in block.body
        if isinstance(node, ast.ImportFrom)
        for alias in node.names
    }
    assert seen == fer_bench._PUBLIC
    assert (path.parent / "py.typed").is_file()


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError) as error:
        _ = fer_bench.trian
    says(error.value, "fer_bench", "trian")


@pytest.mark.parametrize("name", ["compare", "evaluate", "train", "datasets", "backbones"])
def test_no_module_takes_the_place_of_a_function(name: str) -> None:
    code = (
        "import pkgutil, fer_bench\n"
        "modules = {module.name for module in pkgutil.iter_modules(fer_bench.__path__)}\n"
        f"print({name!r} in modules)"
    )
    assert isinstance(getattr(fer_bench, name), Callable)  # type: ignore[arg-type]
    assert python(code) == "False"


@pytest.mark.slow
def test_keras_imported_before_with_other_settings_is_an_error_that_says_what_to_do(
    tmp_path: Path,
) -> None:
    code = (
        "import keras; keras.config.set_image_data_format('channels_first')\n"
        "import fer_bench\n"
        "from fer_bench.api.devices import open_device\n"
        "try: open_device('cpu', message=print)\n"
        "except fer_bench.errors.DeviceError as error: print(error)"
    )
    says(python(code), "image_data_format", "channels_first", "channels_last", "kernel")
