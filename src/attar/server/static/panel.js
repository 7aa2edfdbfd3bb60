// The drafts of one mode, with what they took.

const NAMES = { sampled: "Plain", speculative: "Speculative", superposed: "Superposed" };

/** A mode by the name that people read. */
export function nameOf(mode) {
  return NAMES[mode] ?? mode;
}

/** An element with text: never HTML, as a model may write anything. */
export function make(name, content = "") {
  const element = document.createElement(name);
  element.textContent = content;
  return element;
}

/** A list of drafts; `take` is called with the text of one that is clicked. */
export class Panel {
  constructor(mode, take) {
    this.drafts = [];
    this.place = make("section");
    this.place.setAttribute("aria-label", `${nameOf(mode)} drafts`);
    this.figures = make("p", "…");
    this.list = make("ol");
    this.take = take;
    this.place.append(make("h2", nameOf(mode)), this.figures, this.list);
  }

  set busy(waits) {
    this.place.setAttribute("aria-busy", String(waits));
  }

  /** Show an answer. */
  fill({ ms, passes, tokens, drafts }) {
    const took = [`${Math.round(ms)} ms`, count(passes, "pass", "passes"), count(tokens, "token", "tokens")];
    if (!drafts.length) took.push("the text ends here");
    this.figures.textContent = took.join(" · ");
    this.drafts = drafts;
    this.busy = false;
    this.#list();
  }

  /** Keep what is left of the drafts that begin with what was typed. */
  narrow(typed) {
    this.drafts = this.drafts
      .filter(({ text }) => typed && text.startsWith(typed) && text !== typed)
      .map(({ text, score }) => ({ text: text.slice(typed.length), score }));
    this.#list();
  }

  /** Mark the draft that is shown behind the text. */
  mark(chosen) {
    [...this.list.children].forEach((line, i) => {
      line.firstChild.setAttribute("aria-current", String(i === chosen));
    });
  }

  #list() {
    this.list.replaceChildren(...this.drafts.map((draft) => this.#line(draft)));
  }

  #line({ text, score }) {
    const line = make("li"), button = make("button");
    button.type = "button";
    button.append(make("span", text), make("span", number(score)));
    button.addEventListener("click", () => this.take(text));
    line.append(button);
    return line;
  }
}

function number(score) {
  return score === null ? "–" : score.toFixed(2).replace("-", "−");
}

function count(number, one, many) {
  return `${number} ${number === 1 ? one : many}`;
}
