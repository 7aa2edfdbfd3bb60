"""The annotation service: people label, two arms compete, and the record says who won.

It needs the extra `annotate`.
"""

from importlib.util import find_spec

from attar.errors import MissingExtraError

for _name in ("sqlalchemy", "alembic", "argon2"):
    if find_spec(_name) is None:
        raise MissingExtraError(
            f"the annotation service needs {_name}; install it with `pip install 'attar[annotate]'`"
        )
