// Time at work on a task: pauses of more than a minute do not count.

const IDLE = 60_000; // milliseconds

/** Counts the time between signs of activity. */
export class Clock {
  constructor({ now = () => performance.now() } = {}) {
    this.now = now;
    this.start(0);
  }

  /** Begin a task on which so many milliseconds were spent before. */
  start(spent) {
    Object.assign(this, { spent, last: this.now() });
  }

  /** A key, a click, a touch. */
  touch() {
    const now = this.now(), gap = now - this.last;
    if (gap <= IDLE) this.spent += gap;
    this.last = now;
  }

  /** Milliseconds up to now. */
  get ms() {
    const gap = this.now() - this.last;
    return Math.round(this.spent + (gap <= IDLE ? gap : 0));
  }
}
