"""The HTML report and the model card, filled from templates."""

import json
import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import yaml
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from attar.artefacts import write_text
from attar.errors import ConfigError, finite, printable
from attar.report import tables, verdict
from attar.report.charts import Point, importance_plot, pareto_plot, speed_plot, widths_plot
from attar.report.figures import short
from attar.report.parent_card import inherited, is_hub_id
from attar.report.record import Run, versions

#: what a model does on the Hub -> the class of transformers that loads it
_AUTO_CLASSES = {
    "text-generation": "AutoModelForCausalLM",
    "text-classification": "AutoModelForSequenceClassification",
    "token-classification": "AutoModelForTokenClassification",
    "question-answering": "AutoModelForQuestionAnswering",
    "translation": "AutoModelForSeq2SeqLM",
    "text2text-generation": "AutoModelForSeq2SeqLM",
    None: "AutoModel",
}
_CHART_COSTS = (
    ("bytes", "bytes of weights"),
    ("macs", "multiply-accumulates per token"),
    ("kv_bytes", "KV bytes per token"),
)
_CHART_SPEEDS = (
    ("decode", "tokens per second, decoding"),
    ("prefill", "tokens per second, reading the prompt"),
)

#: more layers or kinds than these are no chart
_LAYERS, _SERIES = 2000, 16
#: likewise networks
_NETWORKS = 10_000


def _templates(*, escape: bool) -> Environment:
    return Environment(
        loader=PackageLoader("attar", "templates"),
        autoescape=escape,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )


def html_report(
    runs: Sequence[Run],
    path: str | Path,
    *,
    title: str = "Attar report",
    names: Sequence[str] | None = None,
) -> Path:
    """Write one self-contained HTML page about the runs: no scripts, no network. Returns its path.

    Args:
        runs: the records.
        path: the file.
        title: the page's heading.
        names: a name for each run; None takes methods and commands.

    Raises:
        ConfigError: the file cannot be written.
    """
    shown = list(names or tables.names_of(runs))
    return write_page(
        "report.html",
        path,
        title=printable(title),
        conclusion=verdict.conclusion(runs, names=shown),
        warning=verdict.scored_apart(runs, names=shown),
        table=Markup(tables.comparison(runs, names=shown).html()),
        charts=_charts(runs, shown),
        speeds=_speed_charts(runs, shown),
        sections=[_section(run, name) for run, name in zip(runs, shown, strict=True)],
    )


def write_page(template: str, path: str | Path, **values: Any) -> Path:
    """Fill one of the package's HTML templates and write it, whole or not at all. Returns its path.

    Args:
        template: its name.
        path: the file.
        values: what the template shows, escaped unless it is `Markup`; `version` is put in.

    Raises:
        ConfigError: the file cannot be written.
    """
    filled = _templates(escape=True).get_template(template)
    page = filled.render(version=versions()["attar"], **values)
    target = Path(path)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        write_text(target, page)
    except OSError as error:
        raise ConfigError(f"cannot write the report {target}: {error.strerror}.") from error
    return target


def is_report(head: bytes) -> bool:
    """Whether a file that begins so is one that `write_page` wrote."""
    return b'<meta name="generator" content="Attar' in head


def _charts(runs: Sequence[Run], names: Sequence[str]) -> list[Markup]:
    """Loss over each cost in which the models differ, those of each text on their own."""
    records = tables.comparison(runs, names=names).records
    texts = list(dict.fromkeys(record["scored_on"] for record in records))
    charts = []
    for (cost, label), text in product(_CHART_COSTS, texts):
        points = verdict.pareto_points(runs, cost=cost, names=names, text=text)
        if len({point.x for point in points}) > 1:
            title = f"scored on {text}" if text and len(texts) > 1 else None
            charts.append(Markup(pareto_plot(points, x_label=label, title=title)))
    return charts


def _speed_charts(runs: Sequence[Run], names: Sequence[str]) -> list[Markup]:
    """Tokens per second of the models that were timed alike, where there are two or more."""
    return [
        Markup(speed_plot(found, x_label=label, title=setting))
        for phase, label in _CHART_SPEEDS
        for setting, found in verdict.speeds(runs, phase=phase, names=names).items()
        if len(found) > 1
    ]


def _section(run: Run, name: str) -> dict[str, Any]:
    """What the template shows of one run."""
    widths: Any = run.details.get("widths")
    importance: Any = run.details.get("importance")
    own = tables.run_table(run)
    return {
        "name": printable(name),
        "command": printable(run.command),
        "table": Markup(own.html()) if own.rows else None,
        "met": None if not run.budget else bool(run.budget.get("met")),
        "budget": tables.budget_lines(run),
        "facts": tables.facts(run),
        "link": _web_link(run),
        "settings": _flat(run.settings),
        "widths": Markup(widths_plot(widths)) if _drawable(widths, dict) else None,
        "importance": Markup(importance_plot(importance)) if _drawable(importance, list) else None,
        "networks": _networks_plot(run.details.get("chart")),
    }


def _networks_plot(found: Any) -> Markup | None:
    """Loss over cost of the networks that a search has scored; None of anything else."""
    if not isinstance(found, dict) or not isinstance(found.get("points"), list):
        return None
    points = []
    for row in found["points"]:
        fine = isinstance(row, list) and len(row) == 3 and finite(row[1]) and finite(row[2])
        if not fine or len(found["points"]) > _NETWORKS:
            return None
        points.append(Point(str(row[0]), row[1], row[2]))
    if not points:
        return None
    labels = [str(found.get(side, "")) for side in ("x", "y")]
    return Markup(pareto_plot(points, x_label=labels[0], y_label=labels[1]))


def _drawable(found: Any, form: type) -> bool:
    """Whether what a record holds of each layer can be a chart: a number a layer, for each kind, or
    for each side of each kind.
    """
    rows = list(found.values()) if isinstance(found, dict) else []
    series = [one for row in rows for one in (row.values() if isinstance(row, dict) else [row])]
    return (
        0 < len(series) <= _SERIES
        and all(isinstance(row, form) for row in rows)
        and all(
            isinstance(one, list)
            and len(one) <= _LAYERS
            and all(finite(v) or (isinstance(v, float) and form is list) for v in one)
            for one in series
        )
    )


def _web_link(run: Run) -> str | None:
    """Where the paper is, if it is on the web: a record from elsewhere may hold `javascript:`."""
    link = str(run.paper.link) if run.paper else ""
    return link if link.startswith(("https://", "http://")) else None


def _flat(settings: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    lines = []
    for key, value in settings.items():
        if isinstance(value, dict) and value:
            lines += _flat(value, f"{prefix}{key}.")
        else:
            text = value if isinstance(value, str) else json.dumps(value, default=str)
            lines.append((printable(prefix + key), printable(text)))
    return lines


def model_card(
    run: Run,
    *,
    base_model: str | None = None,
    made_from: str | None = None,
    license: str | None = None,
    tags: Sequence[str] = (),
    datasets: Sequence[str] = (),
    pipeline_tag: str | None = "text-generation",
    plain: bool = True,
    tokenizer_code: bool = False,
) -> str:
    """A README.md for the Hub: YAML header, cost and quality, how to load, citation, versions.

    Args:
        run: the record of the model's making.
        base_model: the Hub id of what it was made from; None takes `made_from` where that looks
            like one and is no local path, else that in the card of the folder.
        made_from: the model whose weights it started from; None: `run.model`.
        license: as the Hub names licences (`apache-2.0`); None takes that in the card of what it
            was made from, and leaves it out where there is none.
        tags: more tags.
        datasets: Hub ids of the data; none takes `run.data` where that is one.
        pipeline_tag: what the model does, which also says the class that loads it; None leaves it
            out, as for an encoder without a head.
        plain: the checkpoint loads in plain transformers; False says that it needs `import attar`.
        tokenizer_code: the tokenizer's class lies next to it as a file.
    """
    origin = made_from or run.model
    parents = inherited(base_model or origin)
    base = parents.pop("base_model", None)
    data = [run.data] if run.data and "/" in run.data and is_hub_id(run.data) else []
    header: dict[str, Any] = {"library_name": "transformers"}
    optional = {
        "base_model": base,
        "base_model_relation": "finetune" if base else None,  # the nearest that the Hub knows
        **({"license": license} if license else parents),
        "pipeline_tag": pipeline_tag,
        "datasets": list(datasets) or data,
    }
    header |= {key: value for key, value in optional.items() if value}
    header["tags"] = list(
        dict.fromkeys(["attar", *([_tag(run.method)] if run.method else []), *tags])
    )
    own = tables.run_table(run)
    return (
        _templates(escape=False)
        .get_template("card.md")
        .render(
            header=yaml.safe_dump(header, sort_keys=False, allow_unicode=True).strip(),
            name=_text("-".join(filter(None, [run.model and short(run.model), run.method])))
            or run.command,
            parent=_text(origin if is_hub_id(origin) else short(origin)) if origin else None,
            table=own.markdown() if own.rows else None,
            budget=[(label.strip(), _text(line)) for label, line in tables.budget_lines(run)],
            baselines=tables.comparison([run], ratios=False).markdown() if run.baselines else None,
            data=_text(short(run.data)) if run.data and not is_hub_id(run.data) else run.data,
            plain=plain,
            tokenizer_code=tokenizer_code,
            auto_class=_AUTO_CLASSES[pipeline_tag],
            bibtex=run.paper.bibtex() if run.paper else None,
            paper=_text(str(run.paper)) if run.paper else None,
            versions=run.versions,
            hardware=run.hardware,
            date=run.date,
            seed=run.seed,
        )
    )


def save_card(folder: Path, run: Run, **options: Any) -> None:
    """Write `model_card` into a folder that holds its checkpoint, and say how that one loads."""
    text = model_card(
        run,
        plain=not any(folder.glob("modeling_*.py")),
        tokenizer_code=any(folder.glob("tokenization_*.py")),
        **options,
    )
    (folder / "README.md").write_text(text, encoding="utf-8")


def _tag(method: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", method.lower()).strip("-")


def _text(value: str) -> str:
    """One line of Markdown text in which nothing of the value is taken for markup."""
    return re.sub(r"([\\`*_\[\]<>|#])", r"\\\1", printable(" ".join(value.split())))
