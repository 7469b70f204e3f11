// Names for the things that requests refer to: "s1" is the first server, "c2" the second client.

export class Handles {
  #prefix;
  #things = new Map();
  #last = 0;

  constructor(prefix) {
    this.#prefix = prefix;
  }

  add(thing) {
    const handle = `${this.#prefix}${++this.#last}`;
    this.#things.set(handle, thing);
    return handle;
  }

  get(handle) {
    const thing = this.#things.get(handle);
    if (!thing) throw new Error(`there is no ${handle}`);
    return thing;
  }

  values() {
    return this.#things.values();
  }
}
