"""Records of earlier versions, brought to the present form."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

#: options of version 0.1 -> what they are called now
_SETTINGS = {
    "block_size": "context",
    "window_tokens": "context",
    "max_length": "context",
    "max_tokens": "eval_tokens",
    "student_share": "draft_share",
}
_COMMANDS = {
    "distill search": "pipeline search",
    "draft distill": "draft train",
    "tokenizer fit": "tokenizer train",
}
_CONSTRAINTS = {"params of blocks": "blocks", "params of total": "params"}
_DETAILS = {"dpr": "teacher_ratio"}


NOT_FINITE = ("NaN", "Infinity", "-Infinity")


def _numbers(value: Any) -> Any:
    """Schema 1 stored what is not finite as plain words, which text may be too."""
    if isinstance(value, dict):
        return {key: _numbers(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return {"float": value} if isinstance(value, str) and value in NOT_FINITE else value


def words_of_version_0_2(record: dict[str, Any]) -> dict[str, Any]:
    """Schema 1 (version 0.1) to schema 2: one word per concept, `blocks` next to `params` in
    budgets, new names of commands."""
    record = _numbers(record)
    migrated = dict(record)
    migrated["command"] = _COMMANDS.get(str(record["command"]), record["command"])
    for key, names in (("settings", _SETTINGS), ("details", _DETAILS)):
        if isinstance(record.get(key), dict):
            migrated[key] = {names.get(k, k): v for k, v in record[key].items()}
    budget = record.get("budget")
    if isinstance(budget, dict) and isinstance(budget.get("constraints"), list):
        rows = [
            row | {"key": _CONSTRAINTS.get(str(row.get("key")), row.get("key"))}
            for row in budget["constraints"]
            if isinstance(row, dict)
        ]
        migrated["budget"] = budget | {"constraints": rows}
    if isinstance(cost := record.get("cost"), dict):
        migrated["cost"] = {side: _of_model(figures) for side, figures in cost.items()}
    quality = record.get("quality")
    if str(record["command"]).startswith("draft") and isinstance(quality, dict):
        migrated["quality"] = {side: _of_draft(scores) for side, scores in quality.items()}
    return migrated | {"schema": 2}


def _of_model(figures: Any) -> Any:
    """A cost without its peak memory, which was that of the whole process."""
    if not isinstance(figures, dict):
        return figures
    return {name: value for name, value in figures.items() if name != "peak_memory"}


def _of_draft(scores: Any) -> Any:
    """`tau at 0` as `block efficiency at T=0`."""
    if not isinstance(scores, dict):
        return scores
    words = {"tau at ": "block efficiency at T=", "alpha at ": "acceptance rate at T="}
    renamed = {}
    for name, value in scores.items():
        for old, new in words.items():
            name = name.replace(old, new)
        renamed[name] = value
    return renamed


#: the schema that a record has -> what takes it to the next
MIGRATIONS: Mapping[int, Callable[[dict[str, Any]], dict[str, Any]]] = MappingProxyType(
    {1: words_of_version_0_2}
)
