// A text as clusters, with a place between them for each cut.

import { clusters, decomposed, points, unseen, words } from "./points.js";
import { make, say } from "./words.js";

/** Draws the text of `state` (a `Cuts`) into `place`, a listbox whose options are the offsets. */
export class Sheet {
  /** `toggled` is called with an offset that was clicked. */
  constructor(place, { spoken, toggled }) {
    Object.assign(this, { place, spoken, gaps: new Map() });
    place.addEventListener("click", (event) => {
      const at = this.#offsetAt(event);
      if (at) toggled(at);
    });
  }

  /** Build the elements of a new text. */
  lay(state) {
    this.state = state;
    this.gaps = new Map();
    const all = points(state.text);
    this.units = clusters(state.text);
    this.place.replaceChildren(...this.units.map((unit) => this.#unit(unit, all)));
    this.show();
  }

  #unit({ text, start, end }, all) {
    const unit = make("span", "", { class: "unit" });
    const cluster = make("span", "", { class: "cluster", "aria-hidden": "true" });
    const names = unseen(text);
    const seen = names.length === points(text).length ? "" : text; // only what is not all blank
    cluster.append(...(seen ? [seen] : []), ...names.map((name) => make("i", name)));
    if (decomposed(this.state.text, start)) cluster.append(make("i", "◌ํ+า"));
    unit.append(cluster);
    for (let at = start + 1; at <= Math.min(end, all.length - 1); at++) {
      unit.append(this.#gap(at, all, { inner: at < end, start }));
    }
    return unit;
  }

  #gap(at, all, { inner, start }) {
    const near = (part) => spelled(part.join(""));
    const label = say("editor.place", { before: near(all.slice(Math.max(0, at - 4), at)),
      after: near(all.slice(at, at + 4)) });
    const gap = make("span", inner ? `+${at - start}` : "", { id: `gap-${at}`, class: "gap", role: "option",
      "aria-label": label });
    gap.classList.toggle("inner", inner);
    gap.classList.toggle("unusual", !this.state.places.includes(at));
    if (this.state.doubts?.includes(at)) {
      gap.classList.add("doubt");
      gap.setAttribute("aria-label", `${label}, ${say("editor.doubt")}`);
    }
    this.gaps.set(at, gap);
    return gap;
  }

  /** Show the cuts and the caret as they are now. */
  show() {
    for (const [at, gap] of this.gaps) {
      gap.setAttribute("aria-selected", String(this.state.has(at)));
      gap.classList.toggle("caret", at === this.state.caret);
    }
    const caret = this.gaps.get(this.state.caret);
    if (caret) this.place.setAttribute("aria-activedescendant", caret.id);
    else this.place.removeAttribute("aria-activedescendant");
    caret?.scrollIntoView?.({ block: "nearest" });
    this.spoken.textContent = words(this.state.text, this.state.list).map(spelled).join(" | ");
  }

  /** The offset next to a click: the nearer edge of the cluster that was hit. */
  #offsetAt({ target, clientX }) {
    const gap = target.closest(".gap");
    if (gap) return Number(gap.id.slice(4));
    const cluster = target.closest(".cluster");
    if (!cluster) return 0;
    const { start, end } = this.units[[...this.place.children].indexOf(cluster.parentElement)];
    const { left, width } = cluster.getBoundingClientRect();
    return this.#nearest(clientX < left + width / 2 ? start : end);
  }

  /** The nearest place where a word may begin: a click is no override. */
  #nearest(at) {
    const gap = (place) => Math.abs(place - at);
    const best = this.state.places.reduce((a, b) => (gap(b) < gap(a) ? b : a), Infinity);
    return gap(best) <= 2 ? best : 0;
  }
}

/** A text for a voice: what cannot be seen by its name. */
export function spelled(text) {
  return clusters(text)
    .map(({ text: one }) => (unseen(one).length ? ` ${unseen(one).join(" ")} ` : one))
    .join("");
}
