// Time at work on a task: long pauses do not count.

/** Counts the time between signs of activity. */
export class Clock {
  constructor({ now = () => performance.now() } = {}) {
    this.now = now;
    this.start(0);
  }

  /** Begin a task on which so many milliseconds were spent before; longer pauses do not count. */
  start(spent, longest = 60_000) {
    Object.assign(this, { spent, longest, last: this.now() });
  }

  /** A key, a click, a touch. */
  touch() {
    const now = this.now(), gap = now - this.last;
    if (gap <= this.longest) this.spent += gap;
    this.last = now;
  }

  /** Milliseconds up to now. */
  get ms() {
    const gap = this.now() - this.last;
    return Math.round(this.spent + (gap <= this.longest ? gap : 0));
  }
}
