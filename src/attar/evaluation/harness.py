"""Task scores by lm-evaluation-harness."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

import torch
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from attar.errors import AttarError, ConfigError, MissingExtraError, require
from attar.models import computing, inference

TaskScores = dict[str, dict[str, float]]
"""`{task: {metric: value}}`."""

_NAME = r"""(?m)^%s:[ \t]*["']?([^"'\s#]+)"""


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """What lm-evaluation-harness scores, for the options of a verb."""

    tasks: str | None = None
    """Tasks of lm-evaluation-harness to score, separated by commas: names, or .yaml files of your
    own (needs the extra `eval`: run `pip install '.[eval]'` in the checkout)."""
    limit: float | None = None
    """Documents per task of the harness; below 1, a share of them."""
    include_path: Path | None = None
    """A folder with your own task files for the harness, whose tasks are then known by name."""

    def scores(
        self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, *, batch_size: int = 8
    ) -> TaskScores:
        """Score a model on the tasks; empty where none is asked for.

        Raises:
            MissingExtraError: lm-eval is not installed.
            ConfigError: a task does not exist.
        """
        names = [name.strip() for name in (self.tasks or "").split(",") if name.strip()]
        if not names:
            return {}
        return tasks(
            model,
            tokenizer,
            names=names,
            limit=self.limit,
            batch_size=batch_size,
            include_path=self.include_path,
        )


def figures(scores: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Scores as figures of quality, such as `rte acc`, without their standard errors."""
    return {
        f"{task} {metric}": value
        for task, metrics in scores.items()
        for metric, value in metrics.items()
        if "stderr" not in metric and metric != "sample_len"
    }


def tasks(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    *,
    names: Sequence[str],
    limit: int | float | None = None,
    batch_size: int = 8,
    include_path: str | Path | None = None,
) -> TaskScores:
    """Task scores by lm-evaluation-harness.

    Args:
        model: a loaded causal LM.
        tokenizer: its tokenizer.
        names: task names as `lm_eval --tasks list` shows them, of the YAML files under
            `include_path`, or paths of such files.
        limit: documents per task (a number), or a share below 1; None takes all.
        batch_size: requests per model call.
        include_path: a folder with task YAML files of your own.

    Raises:
        MissingExtraError: lm-eval is not installed.
        ConfigError: a task of that name does not exist, or the harness fails on it.
    """
    require(limit is None or limit > 0, "limit", limit, "above 0")
    try:
        lm_eval = import_module("lm_eval")
        huggingface = import_module("lm_eval.models.huggingface")
        manager_class = import_module("lm_eval.tasks").TaskManager
    except ImportError as error:
        raise MissingExtraError(
            f"task scores need lm-evaluation-harness, which is not installed ({error}); "
            "run pip install '.[eval]' in the checkout of Attar."
        ) from error
    files = {name: Path(name) for name in names if name.endswith((".yaml", ".yml"))}
    folders = {str(file.parent): None for file in files.values()}
    if include_path is not None:
        folders[str(include_path)] = None
    own = {name: _task_in(file) for name, file in files.items()}
    names = [own.get(name, name) for name in names]
    # to look through the harness's own files takes a while
    manager = manager_class(include_path=list(folders), include_defaults=len(own) < len(names))
    unknown = [name for name in names if name not in manager.all_tasks]
    if unknown or not names:
        raise ConfigError(
            f"lm-eval knows no task called {', '.join(map(repr, unknown)) or '(none given)'}; "
            "`lm_eval --tasks list` shows all, include_path adds a folder of your own."
        )
    with inference(model), computing(model):
        harness = huggingface.HFLM(pretrained=model, tokenizer=tokenizer, batch_size=batch_size)
        try:
            answer = lm_eval.simple_evaluate(
                model=harness, tasks=names, limit=limit, task_manager=manager, bootstrap_iters=0
            )
        except (AttarError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # what a task names, it loads; what it holds, it runs
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            raise ConfigError(
                f"lm-evaluation-harness cannot score {', '.join(names)} ({reason}); correct the "
                "task file, or leave the task out"
            ) from error
    results = (answer or {}).get("results", {})
    return {
        task: {
            key.removesuffix(",none"): value
            for key, value in metrics.items()
            if isinstance(value, int | float)
        }
        for task, metrics in results.items()
    }


def _task_in(file: Path) -> str:
    """The name of the task, or of the group of tasks, that a file of the harness describes.

    Raises:
        ConfigError: there is none.
    """
    try:
        text = file.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError(
            f"cannot read the task file {str(file)!r}: {reason}; give a .yaml file of "
            "lm-evaluation-harness"
        ) from error
    found = re.search(_NAME % "task", text) or re.search(_NAME % "group", text)
    if found is None:
        raise ConfigError(
            f"expected a line 'task: NAME' in the task file {str(file)!r}, found none; give a "
            ".yaml file of lm-evaluation-harness"
        )
    return found[1]
