// Boundary mode: one to three places of a text, each a cut or not.

import { around } from "./cuts.js";
import { clusters, points, unseen } from "./points.js";
import { make, say } from "./words.js";

const REACH = 20; // characters shown on each side

/** The answers to the places that are asked about, in the order they are asked in. */
export class Boundaries {
  constructor(text, { candidates, answers = [], at = 0 }) {
    Object.assign(this, { text, candidates, length: points(text).length });
    this.answers = new Map(answers.filter(([place]) => candidates.includes(place)));
    this.at = Math.min(Math.max(at, 0), candidates.length - 1);
    this.past = [];
  }

  /** The place that is asked about now. */
  get place() {
    return this.candidates[this.at];
  }

  /** Whether every place has an answer. */
  get complete() {
    return this.candidates.every((place) => this.answers.has(place));
  }

  /** The offsets that were answered, in order. */
  get decided() {
    return [...this.answers.keys()].sort((a, b) => a - b);
  }

  /** Those of them that are cuts. */
  get list() {
    return this.decided.filter((place) => this.answers.get(place));
  }

  /** Say whether a word begins at the place, and go on to the next one without an answer. */
  answer(yes) {
    this.past.push({ at: this.at, was: this.answers.get(this.place) });
    this.answers.set(this.place, yes);
    const open = this.candidates.findIndex((place) => !this.answers.has(place));
    if (open >= 0) this.at = open;
    return true;
  }

  /** Answer all places as other cuts have them. */
  take(cuts) {
    for (const place of this.candidates) {
      this.at = this.candidates.indexOf(place);
      this.answer(cuts.includes(place));
    }
    return true;
  }

  /** Take the last answer back; tells whether there was one. */
  undo() {
    const last = this.past.pop();
    if (!last) return false;
    this.at = last.at;
    if (last.was === undefined) this.answers.delete(this.place);
    else this.answers.set(this.place, last.was);
    return true;
  }

  /** Go to the place before or after this one. */
  move(step) {
    this.at = Math.min(Math.max(this.at + step, 0), this.candidates.length - 1);
  }

  /** The text around a place, in two halves. */
  window(place) {
    const edges = clusters(this.text).map(({ start }) => start).concat(this.length);
    const [start, end] = around(place, { length: this.length, reach: REACH, edges });
    const all = points(this.text);
    return [all.slice(start, place).join(""), all.slice(place, end).join(""), start > 0, end < this.length];
  }
}

/** Draws the places of `state` (a `Boundaries`) into an element. */
export class Questions {
  constructor(place, { answered }) {
    Object.assign(this, { place, answered });
  }

  /** Build a line for each place. */
  lay(state) {
    this.state = state;
    this.place.replaceChildren(...state.candidates.map((at, i) => this.#line(at, i)));
    this.show();
  }

  #line(at, i) {
    const [before, after, more, less] = this.state.window(at);
    const line = make("div", "", { class: "question" });
    const text = make("p", "", { class: "window", lang: "th" });
    text.append(more ? "…" : "", ...written(before), make("span", "", { class: "gap asked", "aria-hidden": "true" }));
    text.append(make("span", say("editor.here"), { class: "spoken" }), ...written(after), less ? "…" : "");
    const buttons = [true, false].map((yes) => {
      const button = make("button", say(yes ? "editor.yes" : "editor.no"), { type: "button" });
      button.addEventListener("click", () => this.answered(i, yes));
      return button;
    });
    line.append(text, make("p", "", { class: "answers" }));
    line.lastChild.append(...buttons);
    return line;
  }

  /** Show the answers, and which place is asked about. */
  show() {
    [...this.place.children].forEach((line, i) => {
      const answer = this.state.answers.get(this.state.candidates[i]);
      line.toggleAttribute("data-asked", i === this.state.at);
      line.querySelector(".gap").classList.toggle("cut", answer === true);
      const [yes, no] = line.querySelectorAll("button");
      yes.setAttribute("aria-pressed", String(answer === true));
      no.setAttribute("aria-pressed", String(answer === false));
    });
  }
}

/** A text as nodes, with names for what cannot be seen. */
function written(text) {
  return clusters(text).flatMap(({ text: one }) => {
    const names = unseen(one);
    if (names.length === 1 && names[0] === "␣") return [" "];
    const seen = names.length === points(one).length ? [] : [one];
    return [...seen, ...names.map((name) => make("i", name))];
  });
}
