"""Label Studio: a JSON list of tasks, whose annotations are spans labelled W.

Browsers count UTF-16 units, so each span says which text it covers, and offsets that do not give it
are tried as UTF-16. Predictions go to the meta and are never taken for labels. What the tool has no
field for lies in the data of the task (`meta`, and `decided` in code points), which it gives back.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from attar.data.segments.cuts import Segmented, cuts_of_spans
from attar.data.segments.json_tasks import read_tasks
from attar.data.segments.jsonl import to_json
from attar.data.segments.offsets import Counting, Span, to_units
from attar.data.segments.spans import WORD, from_spans, read_offset, to_spans, without_spans
from attar.data.segments.streams import Options, writing
from attar.errors import expect

CONFIG = f"""<View>
  <Labels name="label" toName="text">
    <Label value="{WORD}"/>
  </Labels>
  <Text name="text" value="$text" granularity="symbol"/>
</View>
"""
"""The labelling interface for a project of words; `symbol` lets spans begin at any character."""


def config_of(path: Path) -> Path:
    """Where the labelling interface of an export is written."""
    name = path.name.removesuffix(".gz").removesuffix(".json")
    return path.with_name(f"{name}.label-config.xml")


# ------------------------------------------------------------------------------------------ reading


def read(path: Path, *, options: Options) -> Iterator[Segmented]:
    """A sentence for each annotation of each task; a task that has none is raw.

    The meta holds `annotator` (completed_by), `seconds` (lead_time), `status` skipped where the
    annotation was cancelled, and `predictions` of `cuts`, `model` and `score`.

    Raises:
        DataError: a task has no text, or its spans do not fit it, or overlap.
    """
    counting = Counting(options.offsets, options.report)
    for where, task in read_tasks(path, report=options.report):
        if isinstance(task.get("id"), int | str):
            where = f"{where} (id {task['id']})"
        data = task.get("data")
        text = data.get("text") if isinstance(data, Mapping) else None
        expect(isinstance(text, str), f"data.text of {where}", text, "a string")
        assert isinstance(data, Mapping)
        assert isinstance(text, str)
        meta = _meta(task, data)
        if predictions := [
            _prediction(one, text, where=where, counting=counting)
            for one in _list(task, "predictions", where)
        ]:
            meta["predictions"] = predictions
        annotations = _list(task, "annotations", where)
        for annotation in annotations:
            own = meta | _of_annotation(annotation)
            spans = [] if annotation.get("was_cancelled") else _spans(annotation, where)
            if not spans and not annotation.get("was_cancelled") and len(text) > 1:
                options.report.note("annotations without any word", where=where)
            yield from_spans(
                spans,
                text,
                meta=own,
                decided=data.get("decided"),
                where=where,
                counting=counting,
                report=options.report,
            )
        if not annotations:
            yield Segmented.raw(text, meta=meta)


def _meta(task: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    own = data.get("meta")
    meta = {name: value for name, value in data.items() if name not in ("text", "meta", "decided")}
    meta |= own if isinstance(own, Mapping) else {}
    return meta if "id" in meta or "id" not in task else {"id": task["id"], **meta}


def _list(owner: Mapping[str, Any], name: str, where: str) -> list[Mapping[str, Any]]:
    found = owner.get(name) or []
    fine = isinstance(found, list) and all(isinstance(one, Mapping) for one in found)
    expect(fine, f"{name} of {where}", found, "a list of objects")
    return found


def _of_annotation(annotation: Mapping[str, Any]) -> dict[str, Any]:
    by = annotation.get("completed_by")
    by = by.get("email", by.get("id")) if isinstance(by, Mapping) else by
    found = {
        "annotator": by,
        "seconds": annotation.get("lead_time"),
        "status": "skipped" if annotation.get("was_cancelled") else None,
    }
    return {name: value for name, value in found.items() if value is not None}


def _spans(owner: Mapping[str, Any], where: str) -> list[Span]:
    spans = list[Span]()
    for result in _list(owner, "result", where):
        if result.get("type") != "labels":
            continue
        value = result.get("value")
        expect(isinstance(value, Mapping), f"a value in {where}", value, "an object")
        assert isinstance(value, Mapping)
        labels, covered = value.get("labels"), value.get("text")
        fine = isinstance(labels, list) and all(isinstance(one, str) for one in labels)
        expect(fine, f"labels in {where}", labels, "a list of names")
        assert isinstance(labels, list)
        expect(covered is None or isinstance(covered, str), f"text in {where}", covered, "a string")
        start = read_offset(value.get("start"), what="start", where=where)
        end = read_offset(value.get("end"), what="end", where=where)
        spans += [Span(start, end, label, covered) for label in labels]
    return spans


def _prediction(
    found: Mapping[str, Any], text: str, *, where: str, counting: Counting
) -> dict[str, Any]:
    spans = counting.code_points(_spans(found, where), text, where=where)
    words = [(span.start, span.end) for span in spans if span.label == WORD]
    cuts, _ = cuts_of_spans(words, text=text, where=where)
    said = {"model": found.get("model_version"), "score": found.get("score")}
    return {"cuts": list(cuts)} | {name: v for name, v in said.items() if v is not None}


# ------------------------------------------------------------------------------------------ writing


def write(rows: Iterable[Segmented], path: Path, *, options: Options) -> None:
    """Write a list of tasks, and beside it the labelling interface that they need.

    Raises:
        ConfigError: one of the two files is there already.
        DataError: a meta is no JSON.
    """
    with ExitStack() as files:
        files.enter_context(writing(config_of(path)))(CONFIG)
        out = files.enter_context(writing(path))
        separator = "[\n"
        for number, row in enumerate(rows, 1):
            task = _task(row, units=options.offsets == "utf16")
            out(separator + to_json(task, where=f"sentence {number}"))
            separator = ",\n"
            options.report.rows += 1
        out("[]\n" if separator == "[\n" else "\n]\n")


def _task(row: Segmented, *, units: bool) -> dict[str, Any]:
    meta = without_spans(row)
    predictions = meta.pop("predictions", None)
    data: dict[str, Any] = {"text": row.text}
    if meta:
        data["meta"] = meta
    if row.decided is not None and row.decided != ():
        data["decided"] = list(row.decided)
    skipped = meta.get("status") == "skipped"
    task: dict[str, Any] = {"data": data}
    spans = to_spans(row)
    if spans or skipped:
        annotation: dict[str, Any] = {"result": _results(spans, row.text, units=units)}
        known = {"completed_by": "annotator", "lead_time": "seconds"}
        annotation |= {name: meta[own] for name, own in known.items() if _number(meta.get(own))}
        task["annotations"] = [annotation | {"was_cancelled": skipped}]
    if predictions:
        task["predictions"] = [_predicted(one, row.text, units=units) for one in predictions]
    return task


def _predicted(one: Mapping[str, Any], text: str, *, units: bool) -> dict[str, Any]:
    words = to_spans(Segmented(text, tuple(one["cuts"])))
    result = _results(words, text, units=units)
    return {"model_version": one.get("model"), "score": one.get("score"), "result": result}


def _number(value: Any) -> bool:
    """A user is a number there; other names stay in the meta."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def _results(spans: list[Span], text: str, *, units: bool) -> list[dict[str, Any]]:
    edges = [edge for span in spans for edge in (span.start, span.end)]
    edges = to_units(text, edges) if units else edges
    return [
        {
            "id": f"w{number}",
            "from_name": "label",
            "to_name": "text",
            "type": "labels",
            "value": {
                "start": edges[2 * number],
                "end": edges[2 * number + 1],
                "text": span.covered,
                "labels": [span.label],
            },
        }
        for number, span in enumerate(spans)
    ]
