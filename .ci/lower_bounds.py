"""Print constraints that hold every dependency of pyproject.toml at its lowest permitted release.

`tensorflow>=2.21` becomes `tensorflow==2.21.*`: the lower bound, with its bug fixes. The tests then
run on the oldest versions that the project claims to support.
"""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text())["project"]
extras = project["optional-dependencies"]
for requirement in (*project["dependencies"], *extras["mlflow"], *extras["ray"], *extras["search"]):
    name, bound = re.fullmatch(r"([\w-]+)(?:\[.*\])?>=([\d.]+).*", requirement).groups()
    print(f"{name}=={bound if '.' in bound else bound + '.0'}.*")
