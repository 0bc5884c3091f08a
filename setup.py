"""What pyproject.toml cannot say: a wheel is not built without the review page.

An editable installation goes on without it, since `make page` adds it in place.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py
from setuptools.errors import SetupError

BUILT = Path(__file__).parent / "pipeline" / "review" / "built"
FILES = ("app.css", "app.js", "index.html", "licences.txt")


class BuildWithPage(build_py):
    def run(self) -> None:
        missing = [name for name in FILES if not (BUILT / name).is_file()]
        if missing:
            told = (
                f"the review page is not built: pipeline/review/built/{missing[0]} is missing; run "
                "`make page`, which needs node and npm"
            )
            if not self.editable_mode:
                raise SetupError(told)
            self.warn(told)
        super().run()


setup(cmdclass={"build_py": BuildWithPage})
