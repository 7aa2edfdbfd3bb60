"""Write the measured results into the documents, from the committed result files: the tables of
`docs/results.md` and of the pages of the methods, and pictures.

Run it after a benchmark: `make results`. The tests check that the documents agree.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parent))

from picture import learning, pruning

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
DOCS = HERE.parent / "docs"
METHODS = DOCS / "methods"
#: pictures in the folder of the documents, by the benchmark that they show
PICTURES = {"bonsai-quality": pruning, "walloc-learning": learning}
PAGES = (
    README,
    DOCS / "results.md",
    METHODS / "active_segmentation.md",
    METHODS / "autodistil.md",
    METHODS / "bonsai.md",
    METHODS / "distiller.md",
    METHODS / "distillspec.md",
    METHODS / "equal_info.md",
    METHODS / "mixture_of_supernets.md",
    METHODS / "superposed.md",
    METHODS / "compressor.md",
    METHODS / "spactor.md",
    METHODS / "walloc.md",
)
#: pages whose benchmarks do not all begin with the method's name
OWN = {
    "active_segmentation": ("active", "annotate", "segmenter"),
    "distillspec": ("distillspec", "speculative"),
    "autodistil": ("autodistil", "supernet"),
    "equal_info": ("equal-info",),
    "mixture_of_supernets": ("mos",),
    "superposed": ("superposed", "ngram"),
}
#: for the others less is better
AT_LEAST = (
    "active-boundary",
    "active-events",
    "autodistil-rank",
    "autodistil-students",
    "bonsai-speed",
    "compressor-end-to-end",
    "compressor-proxy",
    "distiller-pipelines",
    "distillspec",
    "distillspec-garden",
    "equal-info-codec",
    "equal-info-speed",
    "export",
    "mos-gap",
    "mos-translation",
    "segmenter",
    "serve-load",
    "speculative-llm",
    "speculative-speed",
    "superposed-speed",
    "walloc-dataset",
    "walloc-learning",
    "walloc-rd",
    "walloc-speed",
)
#: what is judged by its figure, not by a ratio
BY_FIGURE = (
    "annotate-load",
    "autodistil-rank",
    "autodistil-students",
    "bonsai-latency",
    "compressor-proxy",
    "distiller-pipelines",
    "mos-gap",
    "mos-translation",
    "ngram-store",
    "segmenter",
    "serve-fuzz",
    "walloc-learning",
    "walloc-rd",
)
BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
REAL_BEGIN, REAL_END = "<!-- smollm2:begin -->", "<!-- smollm2:end -->"


def results() -> dict[str, dict[str, Any]]:
    """The record of every benchmark's full run, by name."""
    files = sorted(HERE.glob("*/results/full.json"))
    return {f.parents[1].name: json.loads(f.read_text(encoding="utf-8")) for f in files}


def table(page: Path, found: dict[str, dict[str, Any]]) -> str:
    """The Markdown table for one page, links relative to it: a method's page has its own."""
    if page.parent == METHODS:
        found = {name: r for name, r in found.items() if is_of(page, name)}
    rows = [
        "| Benchmark | Measured | Baseline | Ratio (or figure) | Target | Met | Command |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for name, record in found.items():
        link = os.path.relpath(HERE / name / "README.md", page.parent)
        sign = "at least" if name in AT_LEAST else "at most"
        judged = "figure" if name in BY_FIGURE else "ratio"
        ratio = record[judged]
        figure = f"{record['figure']:.4g} {record['unit']}"
        met = "yes" if record["ok"] else "no"
        rows.append(
            f"| [{name}]({link}) | {figure} | {record['baseline']} | {ratio:.3g} | "
            f"{sign} {record['target']} | {met} | `python benchmarks/{name}/run.py` |"
        )
    for name in waiting(page):
        link = os.path.relpath(HERE / name / "README.md", page.parent)
        rows.append(
            f"| [{name}]({link}) | not run yet | | | | | `python benchmarks/{name}/run.py` |"
        )
    notes = [line for name, record in found.items() for line in _notes(name, record)]
    return "\n".join([*rows, "", *notes])


def highlights(found: dict[str, dict[str, Any]]) -> str:
    """Results of the README, in plain words."""
    quality, pipelines = found["bonsai-quality"], found["distiller-pipelines"]
    decoding, learning = found["speculative-speed"], found["equal-info-learn"]
    speed, coding = found["bonsai-speed"], found["equal-info-speed"]
    students, latents = found["autodistil-rank"], found["walloc-learning"]["details"]["means"]
    segmenter, queries = found["segmenter"], found["active-boundary"]
    told = {
        "bonsai-quality": (
            f"**A pruned model.** With half of its blocks cut by Bonsai, the loss of a Llama of 6M "
            f"parameters rises by {quality['figure']:.2f} nats per token; with the best baseline "
            f"that cuts in one step, by {_after_colon(quality['one_shot']):.2f}. After equal "
            f"healing it is {quality['healed']:.2f} against "
            f"{_after_colon(quality['healed_baseline']):.2f}. A model of 30M parameters (recipe "
            f"`pocket/30m`) with half of its blocks reads a prompt {speed['ratio']:.1f} times as "
            f"fast as its parent, and generates {speed['decode_ratio']:.1f} times as fast."
        ),
        "distiller-pipelines": (
            f"**A distilled classifier.** With 1,000 labels, a student distilled from a teacher of "
            f"22M parameters is {pipelines['figure']:.1f} points of accuracy better than the same "
            f"student trained on the labels alone. The recommended pipeline is only "
            f"{pipelines['over_logits']:.2f} points better than plain distillation of logits."
        ),
        "speculative-speed": (
            f"**Faster generation.** With a trained draft, a target of 62M parameters generates "
            f"{decoding['figure']:.0f} tokens per second, greedy: {decoding['over_plain']:.1f} "
            f"times plain decoding, and {decoding['ratio']:.2f} times assisted generation of "
            f"transformers with the same pair (we aimed at {decoding['target']})."
        ),
        "equal-info-speed": (
            f"**A tokenizer of compressed text.** It encodes {coding['figure']:.0f} MB per second "
            f"on one thread, {coding['ratio']:.0f} times as fast as a BPE tokenizer with as many "
            f"ids. But small models learn less well from it: {learning['figure']:.2f} bits per "
            f"byte after equal time, against {_after_colon(learning['baseline']):.2f} from plain "
            f"bytes (`equal-info-learn`)."
        ),
        "autodistil-rank": (
            "**A family of students.** Of 54 students of a real encoder of 22M parameters, made in "
            "one training, the ranking without fine-tuning agrees with accuracy on SST-2 by a rank "
            f"correlation of {students['figure']:.2f}, in 1/{students['cheaper']:.0f} of the time "
            "that fine-tuning all takes, once the family is trained, which took longer than both. "
            "Their number of parameters alone ranks them with "
            f"{_after_colon(students['baseline']):.2f}."
        ),
        "walloc-learning": (
            "**Latents in place of pictures.** From a sixteenth of the numbers, a network reads "
            f"small digits on photographs in {latents['digits']['16x latents']:.0f}% from latents, "
            f"and in {latents['digits']['16x smaller']:.0f}% from a smaller picture. Where the "
            "answer is no detail, the smaller picture is better: of which photograph a crop is, "
            f"{latents['photograph']['16x smaller']:.0f}% against "
            f"{latents['photograph']['16x latents']:.0f}%."
        ),
        "segmenter": (
            "**A Thai segmenter.** Word F1 on unseen sentences is "
            f"{segmenter['figure']:.0f} points above PyThaiNLP's newmm, at "
            f"{segmenter['ratio']:.0f} times deepcut's speed. With few labels, questions about "
            f"single boundaries need {queries['ratio']:.1f} times fewer decisions than whole "
            "random sentences, but look into seven times as many (`active-boundary`)."
        ),
    }
    return "\n".join(
        f"{number}. {words} (`{name}`)" for number, (name, words) in enumerate(told.items(), 1)
    )


def real_model(found: dict[str, dict[str, Any]]) -> str:
    """What became of SmolLM2: the README's rows, as far as they are measured."""
    told = {
        "bonsai-llm": _smaller,
        "speculative-llm": _faster,
        "superposed-speed": lambda record: _several(record, found.get("superposed-quality")),
        "export": _elsewhere,
    }
    return "\n\n".join(words(found[name]) for name, words in told.items() if name in found)


def _smaller(record: dict[str, Any]) -> str:
    """What is left at the first budget of `bonsai-llm`, of the methods that were healed."""
    rows, first = record["details"]["rows"], f"-{record['details']['shares'][0]}-0"
    found = {key.removesuffix(first): row for key, row in rows.items() if key.endswith(first)}
    lines = [
        "**Smaller.** A fifth of the parameters in its layers removed, by the methods of "
        "`attar prune`, calibrated on English fiction. Perplexity on WikiText-2 and bits per byte "
        "of unseen fiction, before and after healing (50 steps with the model as the teacher); "
        f"lower is better (`bonsai-llm`).{_at_40(rows)}",
        "",
        "| `blocks<=80%` | perplexity | healed | bits per byte | healed |",
        "| --- | ---: | ---: | ---: | ---: |",
        _real_row("the model as it is", record["details"]["parent"], None),
    ]
    for name in sorted(found, key=lambda name: found[name]["wikitext2"]["nll"]):
        if healed := rows.get(f"{name}{first}-healed"):
            lines.append(_real_row(name, found[name], healed))
    return "\n".join(lines)


def _at_40(rows: dict[str, Any]) -> str:
    """Which method is ahead where two fifths go, before healing, and which comes next."""
    found = {key: row for key, row in rows.items() if key.endswith("-40-0")}
    if not found:
        return ""
    first, second = sorted(found, key=lambda key: found[key]["wikitext2"]["nll"])[:2]
    return (
        f" With two fifths removed {first.removesuffix('-40-0')} is ahead: perplexity "
        f"{found[first]['wikitext2']['perplexity']:.0f} before healing, "
        f"{second.removesuffix('-40-0')} {found[second]['wikitext2']['perplexity']:.0f}."
    )


def _faster(record: dict[str, Any]) -> str:
    rows = next(iter(record["details"]["tables"].values()))  # in the type this machine computes in
    rate = {way: f"{row['rate']:.0f}" for way, row in rows.items()}
    ours = max(float(rate[way]) for way in rate if way.startswith("ours"))
    theirs = max(float(rate[way]) for way in rate if way.startswith("assisted"))
    eight = " and ".join(
        f"{ratio:.2f} times ({name.partition(',')[0]})"
        for name, ratio in record["over_plain"].items()
        if "T=0, batch 8" in name
    )
    return (
        f"**Faster.** Greedy text at {rate['lookup, ours']} tokens per second with Attar's prompt "
        f"lookup (transformers' lookup: {rate['lookup, assisted']}), at {ours:.0f} with a draft of "
        f"two of the model's own layers (assisted generation, same draft: {theirs:.0f}), at "
        f"{rate['plain']} with neither. Eight texts at once are written at {eight} the speed of "
        f"plain decoding (`speculative-llm`)."
    )


def _several(record: dict[str, Any], quality: dict[str, Any] | None) -> str:
    told = (
        f"**Several drafts.** Three completions of ten tokens at {record['figure']:.0f} tokens per "
        f"second: {record['ratio']:.1f} times as fast as three samples one after another, and "
        f"{record['over_one_batch']['3']:.1f} times as fast as in one batch (`superposed-speed`)."
    )
    if quality is None:
        return told
    table = quality["details"]["table"]
    best, one, three = (
        table[way]["itself: best of k"] for way in ("superposed", "nucleus x1", "nucleus x3")
    )
    return (
        f"{told} The best of the three has a perplexity of {best:.1f} under the model itself, one "
        f"sample {one:.1f}, and the best of three samples {three:.1f} (`superposed-quality`)."
    )


def _elsewhere(record: dict[str, Any]) -> str:
    return (
        f"**Elsewhere.** Without two fifths of its blocks, every layer with a width of its own, it "
        f"generates {record['ratio']:.2f} times as many tokens per second in llama.cpp (`export`)."
    )


def _real_row(name: str, row: dict[str, Any], healed: dict[str, Any] | None) -> str:
    cells = [
        f"{row['wikitext2']['perplexity']:.1f}",
        f"{healed['wikitext2']['perplexity']:.1f}" if healed else "",
        f"{row['books']['bits_per_byte']:.3f}",
        f"{healed['books']['bits_per_byte']:.3f}" if healed else "",
    ]
    return f"| {name} | {' | '.join(cells)} |"


def _after_colon(text: str) -> float:
    """The figure of a baseline that is written as `name: figure`."""
    return float(text.rpartition(": ")[2])


def waiting(page: Path) -> list[str]:
    """Benchmarks that a page is about and that have no committed result."""
    names = sorted(file.parent.name for file in HERE.glob("*/run.py"))
    return [name for name in names if is_of(page, name) and name not in results()]


def is_of(page: Path, name: str) -> bool:
    """Whether a page shows a benchmark; the page of results shows all."""
    if page.parent != METHODS:
        return True
    return any(f"{name}-".startswith(f"{own}-") for own in OWN.get(page.stem, (page.stem,)))


def _notes(name: str, record: dict[str, Any]) -> list[str]:
    """What a ratio alone would hide."""
    date, machine = record["date"][:10], record["hardware"]["processor"]
    where = f"({date}, {machine}, {record['hardware'].get('threads', '?')} threads)"
    if name == "bonsai-quality":
        healed = f"{record['healed']:.3f} against {record['healed_baseline']}"
        books = record["books"]
        return [
            f"- {name} {where}: the parent has {record['parent']:.3f} nats a token on 100,000 "
            f"tokens from all test files. After equal healing the rise is {healed}. "
            f"The best baseline that cuts in one step, as published: {record['one_shot']}. "
            f"Blockwise measurement, Attar's own alternative, loses {record['blockwise']:.3f} "
            f"before healing; Bonsai with attention and neurons in the same evaluations, as "
            f"published, {record['joint']:.3f} (one seed). On a second corpus (English fiction, "
            f"new to the parent) the parent has {books['parent']:.3f} nats a token, Bonsai's model "
            f"{books['bonsai']:.3f}, the baseline's {books['baseline']:.3f}."
        ]
    if name == "bonsai-speed":
        per_layer = record["per_layer"]
        return [
            f"- {name} {where}: decode {record['decode_ratio']:.2f}x (target "
            f"{record['decode_target']}); per-layer layout {per_layer['prefill']:.2f}x and "
            f"{per_layer['decode']:.2f}x; Bonsai's evaluations run at "
            f"{record['evaluations_ratio']:.2f} of the bare forward passes' rate (target "
            f"{record['evaluations_target']})."
        ]
    if name == "bonsai-memory":
        return [
            f"- {name} {where}: one AdamW step at the same batch takes "
            f"{record['gradient_step_ratio']:.2f} times the memory of evaluating."
        ]
    note = f": {record['note']}" if "note" in record else "."
    return [f"- {name} {where}{note}"]


def filled(page: Path) -> str:
    """The page's text with its table as the result files have it."""
    text = page.read_text(encoding="utf-8")
    head, rest = text.split(BEGIN, 1)
    _, tail = rest.split(END, 1)
    found = results()
    shown = highlights(found) if page == README else table(page, found)
    text = f"{head}{BEGIN}\n{shown}\n{END}{tail}"
    if REAL_BEGIN in text:
        head, rest = text.split(REAL_BEGIN, 1)
        shown, (_, tail) = real_model(found), rest.split(REAL_END, 1)
        text = f"{head}{REAL_BEGIN}\n{shown}\n{REAL_END}{tail}"
    return text


def drawn() -> dict[Path, str]:
    """The pictures of what is measured, by file."""
    found = results()
    return {
        DOCS / f"{name}.svg": draw(found[name]) for name, draw in PICTURES.items() if name in found
    }


if __name__ == "__main__":
    for file, text in drawn().items():
        file.write_text(text, encoding="utf-8")
    for page in PAGES:
        page.write_text(filled(page), encoding="utf-8")
