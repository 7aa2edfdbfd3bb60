"""`attar annotate` in Python: people label text, two samples compete, and the record says which
won.

Every command is a function here, under the same word; `import` is a keyword of Python's, so that
one is `import_`. All of them but `convert` and `simulate` work on a project and need the extra
`annotate`.
"""

from importlib import import_module
from importlib.util import find_spec
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from attar.errors import MissingExtraError

if TYPE_CHECKING:
    from attar.annotate import event as event
    from attar.annotate import user as user
    from attar.annotate.converting import convert as convert
    from attar.annotate.keeping import backup as backup
    from attar.annotate.keeping import doctor as doctor
    from attar.annotate.keeping import upgrade as upgrade
    from attar.annotate.projects import import_ as import_
    from attar.annotate.projects import init as init
    from attar.annotate.projects import status as status
    from attar.annotate.results import agree as agree
    from attar.annotate.results import curve as curve
    from attar.annotate.results import export as export
    from attar.annotate.results import transfer as transfer
    from attar.annotate.serving import serve as serve
    from attar.annotate.simulating import simulate as simulate
    from attar.annotate.working import draw as draw
    from attar.annotate.working import train as train
    from attar.annotate.working import worker as worker

#: verb -> its module
_HOMES = MappingProxyType(
    {
        "init": "projects",
        "import_": "projects",
        "serve": "serving",
        "worker": "working",
        "draw": "working",
        "train": "working",
        "status": "projects",
        "curve": "results",
        "agree": "results",
        "transfer": "results",
        "export": "results",
        "convert": "converting",
        "simulate": "simulating",
        "backup": "keeping",
        "upgrade": "keeping",
        "doctor": "keeping",
    }
)
#: modules with verbs of their own
_PARTS = ("event", "user")
_WITHOUT_DATABASE = frozenset({"convert", "simulate"})
__all__ = [*_HOMES, *_PARTS]  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    if name not in (*_HOMES, *_PARTS):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    if name not in _WITHOUT_DATABASE:
        _require_service()
    module = import_module(f"{__name__}.{_HOMES.get(name, name)}")
    return module if name in _PARTS else getattr(module, name)


def _require_service() -> None:
    """Refuse to begin without the packages of a project.

    Raises:
        MissingExtraError: one is not installed.
    """
    for package in ("sqlalchemy", "alembic", "argon2"):
        if find_spec(package) is None:
            raise MissingExtraError(
                f"an annotation project needs {package}; install it with `pip install "
                "'attar[annotate]'`"
            )


def __dir__() -> list[str]:
    return sorted(__all__)
