// How somebody answers the events that want an acknowledgement. An event without an answer is met with silence.

import { setTimeout as delay } from "node:timers/promises";

export class Answers {
  #answers = new Map();

  /** From now on `event` is acknowledged with `value`, `delay` ms late; with `silent` not at all. */
  set({ event, value, silent = false, delay = 0 }) {
    if (silent) this.#answers.delete(event);
    else this.#answers.set(event, { value, delay });
  }

  /** Takes the acknowledgement callback off the arguments of `event`, and calls it as told. Returns the other ones. */
  take(event, args) {
    if (typeof args.at(-1) !== "function") return args;
    const answer = this.#answers.get(event);
    if (answer) this.#call(args.at(-1), answer);
    return args.slice(0, -1);
  }

  async #call(acknowledge, { value, delay: ms }) {
    if (ms > 0) await delay(ms);
    acknowledge(value);
  }
}
