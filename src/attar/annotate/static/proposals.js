// What others answered, for a reviewer to decide between: by number, without names.

import { words } from "./points.js";
import { spelled } from "./sheet.js";
import { make, say } from "./words.js";

/** A list of answers; `taken` is called with the cuts of one that is chosen. */
export class Proposals {
  constructor(place, { taken }) {
    Object.assign(this, { place, taken, answers: [] });
  }

  /** Show the answers to a text; where they differ from each other is marked. */
  lay(text, answers) {
    this.answers = answers;
    this.place.hidden = !answers.length;
    const common = (cut) => answers.every(({ cuts }) => cuts.includes(cut));
    this.place.replaceChildren(...answers.map(({ cuts }, i) => {
      const line = make("li"), button = make("button", say("editor.take", { number: i + 1 }), { type: "button" });
      const shown = make("span", "", { class: "words" });
      words(text, cuts).forEach((word, place) => {
        if (place) shown.append(make(common(cuts[place - 1]) ? "span" : "b", "|"));
        shown.append(spelled(word));
      });
      button.addEventListener("click", () => this.take(i));
      line.append(button, " ", shown);
      return line;
    }));
  }

  /** Choose one by its place in the list. */
  take(i) {
    if (this.answers[i]) this.taken(this.answers[i].cuts);
  }
}
