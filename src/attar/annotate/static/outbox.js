// Answers on their way: each has an id made here, so that sending it twice stores it once.

import { ask, newId, passing } from "./server.js";

const LONGEST = 30; // seconds between attempts

/** Sends one answer at a time, again and again until the server has said something about it. */
export class Outbox {
  constructor(local, { sent, refused, waiting }) {
    Object.assign(this, { local, sent, refused, waiting });
  }

  /** Send an answer; `notes` are given back with it. */
  async send(answer, notes) {
    const kept = { answer: { id: newId(), ...answer }, notes };
    this.local.set("outbox", kept); // before it leaves: the page may be closed now
    await this.#post(kept, 1);
  }

  /** Send what an earlier page left; tells whether there was anything. */
  async resume() {
    const kept = this.local.get("outbox");
    if (!kept?.answer) return false;
    await this.#post(kept, 1);
    return true;
  }

  async #post(kept, seconds) {
    try {
      await ask("api/annotations", { method: "POST", body: kept.answer });
    } catch (error) {
      if (passing(error)) {
        this.waiting(seconds);
        await new Promise((done) => setTimeout(done, 1000 * seconds));
        return this.#post(kept, Math.min(2 * seconds, LONGEST));
      }
      if (error.status !== 401) this.local.drop("outbox"); // who logs in again sends it again
      return this.refused(error);
    }
    this.local.drop("outbox");
    return this.sent(kept.answer, kept.notes);
  }
}
