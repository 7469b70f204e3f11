// Waiting for a condition that is looked at again whenever something has changed.

export class Signal {
  #waiting = new Set();

  /** Something has changed: everyone who waits looks again. */
  notify() {
    for (const look of this.#waiting) look();
  }

  /** What `check` returns, once that is truthy; after `timeout` ms an error with the words of `complaint()`. */
  until(check, timeout, complaint) {
    return new Promise((resolve, reject) => {
      const finish = (settle, value) => {
        this.#waiting.delete(look);
        clearTimeout(timer);
        settle(value);
      };
      const look = () => {
        const found = check();
        if (found) finish(resolve, found);
      };
      const timer = setTimeout(() => finish(reject, new Error(`after ${timeout} ms: ${complaint()}`)), timeout);
      this.#waiting.add(look);
      look();
    });
  }
}
