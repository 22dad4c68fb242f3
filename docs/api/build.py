"""The API reference as a static site, made of the docstrings by pdoc (extra ``docs``).

Command:   python docs/api/build.py [FOLDER]
Expected:  FOLDER/index.html, by default site/index.html; about 20 s on one core

Every module of ``dcmu_jax`` is imported, and nothing of it is run.
"""

import os
import pkgutil
import sys
import warnings
from pathlib import Path

os.environ.setdefault("JAX_PLATFORMS", "cpu")

import pdoc
import pdoc.docstrings
import pdoc.render

import dcmu_jax


def modules() -> list[str]:
    """Every module of the package by name, the package itself first.

    Said one by one: where a package has ``__all__``, pdoc passes over the modules it does not name.
    Where it has none pdoc finds them, too, and would warn of it.
    """
    found = pkgutil.walk_packages(dcmu_jax.__path__, "dcmu_jax.")
    return ["dcmu_jax", *sorted(module.name for module in found)]


def build(folder: Path) -> None:
    """Write the pages; a docstring or a link that pdoc cannot read is an error."""
    warnings.simplefilter("error", UserWarning)
    warnings.filterwarnings("ignore", message="The module specification .* adds a module named")
    # Of a NamedTuple's fields, which pdoc looks up in the wrong module: shown as they are written.
    warnings.filterwarnings("ignore", message="Error parsing type annotation ForwardRef")
    # Arguments that are given by name only, a list like Args.
    pdoc.docstrings.GOOGLE_LIST_SECTION_ALIASES["Other Args"] = "Keyword Args"
    pdoc.render.configure(
        docformat="google",
        math=True,
        footer_text=f"dcmu_jax {dcmu_jax.__version__}",
        template_directory=Path(__file__).parent,
    )
    pdoc.pdoc(*modules(), output_directory=folder)


if __name__ == "__main__":
    target = Path(sys.argv[1] if len(sys.argv) > 1 else "site")
    build(target)
    print(target / "index.html")
