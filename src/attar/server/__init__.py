"""An OpenAI-compatible completion server: one model, many clients, continuous batching."""

from importlib.util import find_spec

from attar.errors import MissingExtraError

for _package in ("fastapi", "prometheus_client", "uvicorn"):
    if find_spec(_package) is None:
        raise MissingExtraError(
            f"attar serve needs the package {_package}; run pip install '.[serve]' in the checkout "
            "of Attar"
        )
