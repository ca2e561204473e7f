// Asking again and again: about once a second while something happens and somebody looks, less
// often otherwise, and ever less often while the answer is an error.

const ACTIVE_MS = 1_000;
const IDLE_MS = 3_000;
const HIDDEN_MS = 30_000;

export class Poller {
  /**
   * @param ask asks once; what it returns tells whether something happens.
   * @param failed is told the error, and in how many seconds it is tried again.
   */
  constructor(ask, failed) {
    this.ask = ask;
    this.failed = failed;
    this.failures = 0;
    this.timer = null;
    this.isAsking = false;
    this.isStopped = false;
    this.onShown = () => {
      if (!document.hidden) this.now();
    };
    document.addEventListener("visibilitychange", this.onShown);
  }

  /** Ask now, or, if an answer is awaited, right after it. */
  async now() {
    clearTimeout(this.timer);
    this.isWanted = true;
    if (this.isAsking) return;
    this.isAsking = true;
    let pause_ms = IDLE_MS;
    while (this.isWanted && !this.isStopped) {
      this.isWanted = false;
      try {
        pause_ms = (await this.ask()) ? ACTIVE_MS : IDLE_MS;
        this.failures = 0;
      } catch (error) {
        pause_ms = Math.min(ACTIVE_MS * 2 ** this.failures, HIDDEN_MS);
        this.failures += 1;
        if (!this.isStopped) this.failed(error, pause_ms / 1000);
        if (error.status === undefined) console.error(error);
      }
    }
    this.isAsking = false;
    if (this.isStopped) return;
    if (document.hidden) pause_ms = HIDDEN_MS;
    this.timer = setTimeout(() => this.now(), pause_ms);
  }

  stop() {
    this.isStopped = true;
    clearTimeout(this.timer);
    document.removeEventListener("visibilitychange", this.onShown);
  }
}
