// The cuts of one text, with a caret and a way back.

import { legal, points } from "./points.js";

/** Every change can be taken back, one at a time. */
export class Cuts {
  /**
   * `places` are the offsets the caret stops at; null: the legal ones. Offsets run from 1 to the
   * length less 1. `doubts` are those where a model is unsure.
   */
  constructor(text, { cuts = [], caret = null, places = null, doubts = null } = {}) {
    this.text = text;
    this.doubts = doubts ?? [];
    this.length = points(text).length;
    this.places = places ?? legal(text);
    this.cuts = new Set(cuts.filter((at) => this.#inside(at)));
    this.caret = this.#inside(caret) ? caret : (this.places[0] ?? (this.length > 1 ? 1 : 0));
    this.past = [];
  }

  #inside(at) {
    return Number.isInteger(at) && at > 0 && at < this.length;
  }

  /** The cuts in order. */
  get list() {
    return [...this.cuts].sort((a, b) => a - b);
  }

  /** Whether a word begins at an offset. */
  has(at) {
    return this.cuts.has(at);
  }

  /** Add the cut at an offset, or take it away; the caret goes there. */
  toggle(at = this.caret) {
    if (!this.#inside(at)) return false;
    this.past.push({ at, cuts: this.list });
    if (!this.cuts.delete(at)) this.cuts.add(at);
    this.caret = at;
    return true;
  }

  /** Put other cuts in place of these. */
  take(cuts) {
    this.past.push({ at: this.caret, cuts: this.list });
    this.cuts = new Set(cuts.filter((at) => this.#inside(at)));
    return true;
  }

  /** Take the last change back; tells whether there was one. */
  undo() {
    const last = this.past.pop();
    if (!last) return false;
    this.cuts = new Set(last.cuts);
    this.caret = last.at;
    return true;
  }

  /** Move the caret by one place, or by one code point with `all`; it stops at the ends. */
  move(step, { all = false } = {}) {
    this.caret = this.#next(step, all ? null : this.places);
  }

  /** Move the caret to the next cut before or after it. */
  jump(step) {
    this.caret = this.#next(step, this.list);
  }

  /** Move the caret to the first or the last place. */
  end(step) {
    this.caret = (step < 0 ? this.places[0] : this.places.at(-1)) ?? this.caret;
  }

  #next(step, places) {
    if (!places) {
      const at = this.caret + step;
      return this.#inside(at) ? at : this.caret;
    }
    const beyond = places.filter((at) => (at - this.caret) * step > 0);
    return (step > 0 ? beyond[0] : beyond.at(-1)) ?? this.caret;
  }
}

/** The part of a text around an offset: [start, end), at cluster edges where `edges` has them. */
export function around(at, { length, reach, edges }) {
  const start = Math.max(0, at - reach), end = Math.min(length, at + reach);
  const before = edges.filter((edge) => edge <= start);
  const after = edges.filter((edge) => edge >= end);
  return [before.at(-1) ?? 0, after[0] ?? length];
}
