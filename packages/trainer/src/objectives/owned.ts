import { FinetableError } from '@finetable/core';

/** That an objective belongs to one trainer. */
export class Owned {
  readonly #name: string;
  #owned = false;

  /** @param name of the function that makes the objective */
  constructor(name: string) {
    this.#name = name;
  }

  /** @throws INVALID_ARGUMENT the second time */
  claim(): void {
    if (this.#owned) {
      throw new FinetableError(
        'INVALID_ARGUMENT',
        `the objective is in use by another trainer; make one for each with ${this.#name}()`,
      );
    }
    this.#owned = true;
  }
}
