// What must not be lost: drafts and answers under way, in this browser and on the server.

const EVERY = 2000; // milliseconds between saves on the server
const KEPT = 7 * 24 * 3600 * 1000; // milliseconds that a forgotten draft stays in this browser

/** The storage of one user: several people may use a browser one after the other. */
export class Local {
  constructor(user) {
    this.prefix = `attar:${user}:`;
    this.#forgetOld();
  }

  /** What was kept under a name; null if nothing was, or it cannot be read. */
  get(name) {
    try {
      return JSON.parse(localStorage.getItem(this.prefix + name));
    } catch {
      return null;
    }
  }

  /** Keep a value, with the time. A browser without storage keeps nothing, and work goes on. */
  set(name, value) {
    try {
      localStorage.setItem(this.prefix + name, JSON.stringify({ ...value, at: Date.now() }));
    } catch {
      // full or forbidden: the server has the draft
    }
  }

  /** Forget a value. */
  drop(name) {
    try {
      localStorage.removeItem(this.prefix + name);
    } catch {
      // as above
    }
  }

  #forgetOld() {
    try {
      const names = Object.keys(localStorage).filter((key) => key.startsWith(`${this.prefix}draft:`));
      for (const key of names) {
        const { at = 0 } = JSON.parse(localStorage.getItem(key)) ?? {};
        if (Date.now() - at > KEPT) localStorage.removeItem(key);
      }
    } catch {
      // as above
    }
  }
}

/** Saves what `read` returns: in this browser at each change, on the server every two seconds. */
export class Autosave {
  constructor({ local, send, told }) {
    Object.assign(this, { local, send, told, task: null, changed: false });
    setInterval(() => this.flush(), EVERY);
    addEventListener("pagehide", () => this.flush({ keepalive: true }));
  }

  /** Begin with a task; `read` gives its draft. */
  begin(task, read) {
    Object.assign(this, { task, read, changed: false });
  }

  /** Something changed. */
  note() {
    if (!this.task) return;
    this.changed = true;
    this.local.set(`draft:${this.task}`, this.read());
  }

  /** Save on the server what has changed since. */
  async flush(options = {}) {
    if (!this.task || !this.changed) return;
    const { task } = this;
    this.changed = false;
    try {
      await this.send(task, this.read(), options);
      if (task === this.task) this.told(true);
    } catch (error) {
      if (task !== this.task) return;
      this.changed = error.status === 0 || error.status >= 500; // else it would be refused again
      this.told(false, error);
    }
  }

  /** The task is over; its draft goes, unless this browser is to `keep` it. */
  end({ keep = false } = {}) {
    if (this.task && !keep) this.local.drop(`draft:${this.task}`);
    this.task = null;
  }
}
