// The guideline over the page: to read, and after a change to acknowledge.

import { ask } from "./server.js";
import { make, say } from "./words.js";

/** The dialog; `acknowledged` is called with the version that was read. */
export class Guideline {
  constructor(parts, { acknowledged }) {
    Object.assign(this, { parts, acknowledged, version: null });
    parts.guideline.addEventListener("cancel", (event) => {
      if (this.needed) event.preventDefault(); // Escape is no acknowledgement
    });
    parts.guideline.addEventListener("keydown", (event) => { // pressed twice, it would close all the same
      if (this.needed && event.key === "Escape") event.preventDefault();
    });
    parts.understood.addEventListener("click", () => this.#close());
  }

  /** Show it until it is closed. */
  async open() {
    const { parts } = this;
    let found;
    try {
      found = await ask("api/guideline");
    } catch (error) {
      parts.error.textContent = error.message;
      return;
    }
    [this.version, this.needed] = [found.version, !found.acknowledged];
    const changed = this.needed && found.previous !== null;
    parts.guidelinetitle.textContent = say(changed ? "guideline.changed" : "guideline.title", found);
    parts.guidelinetext.replaceChildren(...(changed ? found.diff.map(line) : [make("p", found.text)]));
    parts.understood.textContent = say(this.needed ? "guideline.understood" : "guideline.close");
    do { // a browser may close it in spite of us when Escape is pressed twice
      parts.guideline.showModal();
      parts.guidelinetext.scrollTop = 0;
      await new Promise((done) => {
        this.closed = done;
        parts.guideline.addEventListener("close", done, { once: true });
      });
    } while (this.needed);
  }

  async #close() {
    try {
      if (this.needed) await this.acknowledged(this.version);
    } catch (error) {
      this.parts.guidelinetitle.textContent = error.message;
      return;
    }
    this.needed = false;
    this.parts.guideline.close();
    this.closed(); // at once: the event comes later, and keys must not be lost until then
  }
}

/** One line of a comparison, with its kind in words for those who do not see colours. */
function line({ kind, text }) {
  const row = make("p", "", { class: kind });
  const tag = { added: "ins", removed: "del", same: "span" }[kind];
  if (kind !== "same") row.append(make("b", say(`guideline.${kind}`)), " ");
  row.append(make(tag, text || " "));
  return row;
}
